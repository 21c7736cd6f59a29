"""Muon for the encoder's matrices, AdamW for everything else, behind one handle.

Muon (Jordan et al., 2024, "Muon: An optimizer for hidden layers in neural networks") makes every update of a matrix
orthogonal. Its steps are scaled to the size of AdamW's, so that one learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Optimizers:
    """Several optimizers that step together."""

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        self._members = tuple(members)

    @property
    def parameters(self) -> list[Tensor]:
        """Everything that is trained."""
        return [parameter for group in self._groups() for parameter in group["params"]]

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self._groups():
            group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for member in self._members:
            member.zero_grad()

    def step(self) -> None:
        """Update everything that is trained."""
        for member in self._members:
            member.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Momenta, for the checkpoint."""
        return [member.state_dict() for member in self._members]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """The other way round."""
        for member, state in zip(self._members, states, strict=True):
            member.load_state_dict(state)

    def _groups(self) -> Iterable[dict[str, Any]]:
        return (group for member in self._members for group in member.param_groups)


def for_codebook(codebook: nn.Module) -> Optimizers:
    """For the notes' codes: no decay, since they start where the language model can read them."""
    return Optimizers([torch.optim.AdamW(codebook.parameters(), weight_decay=0.0)])


def for_tower(tower: nn.Module, heads: nn.Module, decay: float) -> Optimizers:
    """For the tower and the heads. Vectors and places are not decayed."""
    named = [*tower.named_parameters(), *heads.named_parameters()]
    hidden = [p for name, p in named if "encoder.layers" in name and p.ndim == 2]
    taken = set(map(id, hidden))
    others = [(name, p) for name, p in named if id(p) not in taken]
    matrices = [p for name, p in others if p.ndim > 1 and "position" not in name]
    vectors = [p for name, p in others if p.ndim == 1 or "position" in name]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return Optimizers(
        [
            torch.optim.Muon(hidden, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        ]
    )
