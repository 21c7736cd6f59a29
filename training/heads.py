"""Heads that only training has: what lies on a patch, and which word a row says.

They read the tower's features before the connector, so that the features carry each answer in a form that one linear
map can take out; the connector is such a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.marks import FINE, LABELS, UNKNOWN
from training.notes import GROUPS, NUM_ROWS, VOCABULARY
from training.tower import TowerConfig

_NOTHING_WEIGHT = 0.15  # most rows and patches show nothing


class Heads(nn.Module):
    """Linear maps from features to labels of patches and to words of rows."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.patches = nn.ModuleDict(
            {name: nn.Linear(config.hidden, len(values) + 1) for name, values in LABELS.items()}
        )
        self.ink = nn.Linear(config.hidden, FINE**2)
        self.words = nn.Linear(config.hidden * config.scale**2, len(VOCABULARY))
        self.habits = nn.Parameter(torch.zeros(NUM_ROWS, len(VOCABULARY)))  # what a row says anyway
        nn.init.trunc_normal_(self.words.weight, std=0.02)

    def loss(
        self, early: Tensor, patches: Tensor, blocks: Tensor, inked: Tensor, labels: Tensor, notes: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """How far features are from telling ink, labels and notes, and the share told right by group.

        early [B][P][C] (after the first layers), inked [B][P][16]; patches [B][P][C], labels [B][4][P];
        blocks [B][64][C·scale²] (the connector's input), notes [B][64].
        """
        loss = functional.binary_cross_entropy_with_logits(self.ink(early).float(), inked.float())
        shares: dict[str, Tensor] = {}
        for place, (name, head) in enumerate(self.patches.items()):
            wanted = labels[:, place].flatten()
            logits = head(patches).flatten(0, 1).float()
            loss = loss + weighted_cross_entropy(logits, wanted)
            shares[f"patch {name}"] = _share(logits.detach().argmax(-1) == wanted, wanted > 0)
        logits = self.words(blocks).float() + self.habits
        loss = loss + 2 * weighted_cross_entropy(logits.flatten(0, 1), notes.flatten())
        return loss, shares | shares_by_group(logits.detach().argmax(-1), notes)


def weighted_cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Of logits [N][values] and codes [N]; "nothing" weighs little, what nobody says nothing."""
    each = functional.cross_entropy(
        logits, wanted, reduction="none", ignore_index=UNKNOWN
    )  # and UNSAID, which is the same
    weights = torch.where(wanted > 0, 1.0, torch.where(wanted == 0, _NOTHING_WEIGHT, 0.0))
    return (each * weights).sum() / weights.sum().clamp(min=1)


def _share(is_right: Tensor, counts: Tensor) -> Tensor:
    return (is_right & counts).sum() / counts.sum().clamp(min=1)


_GROUP_CODES = {name: torch.tensor([word in words for word in VOCABULARY]) for name, words in GROUPS.items()}


def shares_by_group(said: Tensor, notes: Tensor) -> dict[str, Tensor]:
    """Of the notes [B][64] whose word is of a group, the share that was said [B][64]."""
    return {
        name: _share(said == notes, members.to(notes.device)[notes] & (notes >= 0))
        for name, members in _GROUP_CODES.items()
    }
