"""The codebook: the vector that the language model is shown for each word of a row's notes.

A code starts as the model's own embedding of the word, and training moves it; all rows share the table, and every row
adds a vector of its own. Besides, each word lends something to the rows of its line: what is red then says also that it
is the star, and the language model need not find that out from words that stand apart. A little it lends to all rows:
what there is, and with it what there is not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.notes import LINE, NUM_ROWS, VOCABULARY

Embed = Callable[[str], Tensor]  # a word's own embedding [C]
_NOTHING = "."  # a row that says nothing starts as a full stop


class Codebook(nn.Module):
    """Codes of notes."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.stack([embed(word or _NOTHING) for word in VOCABULARY]))  # [V][C]
        self.offsets = nn.Parameter(torch.zeros(NUM_ROWS, self.table.shape[1]))
        self.lent = nn.Parameter(torch.zeros_like(self.table))  # by a word, to the rows of its line
        self.lent_to_all = nn.Parameter(torch.zeros_like(self.table))  # and to every row

    @classmethod
    def empty(cls, width: int) -> Codebook:
        """One to be filled from a checkpoint, whose codes have this width."""
        return cls(lambda word: torch.zeros(width))

    def forward(self, notes: Tensor) -> Tensor:
        """notes [B][64], codes of words → rows [B][64][C]."""
        lines = self.lent[notes].unflatten(1, (-1, LINE)).mean(2)
        page = self.lent_to_all[notes].mean(1, keepdim=True)
        return self.table[notes] + self.offsets + page + lines.repeat_interleave(LINE, 1)
