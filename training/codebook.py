"""The codebook: the vector that the language model is shown for each word of a row's notes.

A code starts as the model's own embedding of the word, and training moves it; all rows share the table, and every row
adds a vector of its own. Besides, each word lends something to the rows of its line: what is red then says also that it
is the star, and the language model need not find that out from words that stand apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.heads import weighted_cross_entropy
from training.notes import LINE, NUM_ROWS, VOCABULARY

Embed = Callable[[str], Tensor]  # a word's own embedding [C]
_NOTHING = "."  # a row that says nothing starts as a full stop
_NOTHING_WEIGHT = 0.25
_SHARPNESS = 8.0
_READINGS = 3


class Codebook(nn.Module):
    """Codes of notes, and how near rows come to them."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.stack([embed(word or _NOTHING) for word in VOCABULARY]))  # [V][C]
        self.offsets = nn.Parameter(torch.zeros(NUM_ROWS, self.table.shape[1]))
        self.lent = nn.Parameter(torch.zeros_like(self.table))  # by a word, to the rows of its line

    def forward(self, notes: Tensor) -> Tensor:
        """notes [B][64], codes of words → rows [B][64][C]."""
        return self.table[notes] + self._around(notes)

    def _around(self, notes: Tensor) -> Tensor:
        """What rows hold besides their words' codes, [B][64][C]."""
        lines = self.lent[notes].unflatten(1, (-1, LINE)).mean(2)
        return self.offsets + lines.repeat_interleave(LINE, 1)

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """The words whose codes lie nearest to rows [B][64][C], as codes [B][64]."""
        table = self.table.expand(len(rows), -1, -1)
        words = torch.cdist(rows - self.offsets, table).argmin(-1)
        for _ in range(_READINGS - 1):  # what a line lends is known once its words are
            words = torch.cdist(rows - self._around(words), table).argmin(-1)
        return words

    def confusion(self, rows: Tensor, notes: Tensor) -> Tensor:
        """Cross-entropy of notes [B][64] where a word is the likelier, the nearer its code lies to rows [B][64][C].

        A distance alone is least at the mean of what could be meant, which may be near to a word that is not.
        """
        with torch.no_grad():
            table, around = self.table.detach(), self._around(notes.clamp(min=0))
        squares = (table - table.mean(0)).square().sum(-1).mean()
        logits = 2 * (rows - around) @ table.T - table.square().sum(-1)  # and what is the same for all words
        return weighted_cross_entropy((_SHARPNESS * logits / squares).flatten(0, 1), notes.flatten())

    def distance(self, rows: Tensor, notes: Tensor) -> Tensor:
        """How far rows [B][64][C] lie from saying notes [B][64]; 1 is the mean square of the codes about their mean."""
        with torch.no_grad():
            wanted = self(notes.clamp(min=0))
            unit = (self.table - self.table.mean(0)).square().mean()
            weights = torch.where(notes > 0, 1.0, torch.where(notes == 0, _NOTHING_WEIGHT, 0.0))
        each = (rows - wanted).square().mean(-1)
        return (each * weights).sum() / weights.sum().clamp(min=1) / unit
