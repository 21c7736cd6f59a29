"""What the tower is held against: notes, word by word, and by heads that only training has, what lies on each patch.

The heads read the tower's features before the connector, so that the features carry each answer in a form that one
linear map can take out; the connector is such a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.marks import FINE, LABELS, UNKNOWN
from training.notes import GROUPS, VOCABULARY
from training.tower import TowerConfig

# Most rows and patches show nothing.
_EMPTY_PATCH_WEIGHT = 0.15
_EMPTY_ROW_WEIGHT = 0.5


class Heads(nn.Module):
    """Linear maps from features to labels of patches."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.patches = nn.ModuleDict(
            {name: nn.Linear(config.hidden, len(values) + 1) for name, values in LABELS.items()}
        )
        self.ink = nn.Linear(config.hidden, FINE**2)

    def loss(
        self, early: Tensor, patches: Tensor, inked: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """How far features are from telling ink and labels, and the share told right by label.

        early [B][P][C] (after the first layers), inked [B][P][16]; patches [B][P][C], labels [B][4][P].
        """
        loss = functional.binary_cross_entropy_with_logits(self.ink(early).float(), inked.float())
        shares: dict[str, Tensor] = {}
        for place, (name, head) in enumerate(self.patches.items()):
            wanted = labels[:, place].flatten()
            logits = head(patches).flatten(0, 1).float()
            loss = loss + _cross_entropy(logits, wanted, _EMPTY_PATCH_WEIGHT)
            shares[f"patch {name}"] = _share(logits.detach().argmax(-1) == wanted, wanted > 0)
        return loss, shares


def words_loss(scores: Tensor, notes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of notes [B][64] by scores [B][64][words], and the share said right by group."""
    loss = _cross_entropy(scores.flatten(0, 1), notes.flatten(), _EMPTY_ROW_WEIGHT)
    return loss, _shares_by_group(scores.detach().argmax(-1), notes)


def _cross_entropy(logits: Tensor, wanted: Tensor, empty_weight: float) -> Tensor:
    """Of logits [N][values] and codes [N]; "nothing" weighs little, what nobody says nothing."""
    each = functional.cross_entropy(
        logits, wanted, reduction="none", ignore_index=UNKNOWN
    )  # and UNSAID, which is the same
    weights = torch.where(wanted > 0, 1.0, torch.where(wanted == 0, empty_weight, 0.0))
    return (each * weights).sum() / weights.sum().clamp(min=1)


def _share(is_right: Tensor, counts: Tensor) -> Tensor:
    return (is_right & counts).sum() / counts.sum().clamp(min=1)


_GROUP_CODES = {name: torch.tensor([word in words for word in VOCABULARY]) for name, words in GROUPS.items()}


def _shares_by_group(said: Tensor, notes: Tensor) -> dict[str, Tensor]:
    """Of the notes [B][64] whose word is of a group, the share that was said [B][64]."""
    return {
        name: _share(said == notes, members.to(notes.device)[notes] & (notes >= 0))
        for name, members in _GROUP_CODES.items()
    }
