"""The codebook: the vector that the language model is shown for each word of a row's notes.

A code starts as the model's own embedding of the word, and training moves it; all rows share the table, and every row
adds a vector of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.heads import weighted_cross_entropy
from training.notes import NUM_ROWS, VOCABULARY

Embed = Callable[[str], Tensor]  # a word's own embedding [C]
_NOTHING = "."  # a row that says nothing starts as a full stop
_NOTHING_WEIGHT = 0.25
_SHARPNESS = 8.0


class Codebook(nn.Module):
    """Codes of notes, and how near rows come to them."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.stack([embed(word or _NOTHING) for word in VOCABULARY]))  # [V][C]
        self.offsets = nn.Parameter(torch.zeros(NUM_ROWS, self.table.shape[1]))

    def forward(self, notes: Tensor) -> Tensor:
        """notes [B][64], codes of words → rows [B][64][C]."""
        return self.table[notes] + self.offsets

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """The words whose codes lie nearest to rows [B][64][C], as codes [B][64]."""
        return torch.cdist(rows - self.offsets, self.table.expand(len(rows), -1, -1)).argmin(-1)

    def confusion(self, rows: Tensor, notes: Tensor) -> Tensor:
        """Cross-entropy of notes [B][64] where a word is the likelier, the nearer its code lies to rows [B][64][C].

        A distance alone is least at the mean of what could be meant, which may be near to a word that is not.
        """
        table, offsets = self.table.detach(), self.offsets.detach()
        squares = (table - table.mean(0)).square().sum(-1).mean()
        logits = 2 * (rows - offsets) @ table.T - table.square().sum(-1)  # and what is the same for all words
        return weighted_cross_entropy((_SHARPNESS * logits / squares).flatten(0, 1), notes.flatten())

    def distance(self, rows: Tensor, notes: Tensor) -> Tensor:
        """How far rows [B][64][C] lie from saying notes [B][64]; 1 is the mean square of the codes about their mean."""
        with torch.no_grad():
            wanted = self(notes.clamp(min=0))
            unit = (self.table - self.table.mean(0)).square().mean()
            weights = torch.where(notes > 0, 1.0, torch.where(notes == 0, _NOTHING_WEIGHT, 0.0))
        each = (rows - wanted).square().mean(-1)
        return (each * weights).sum() / weights.sum().clamp(min=1) / unit
