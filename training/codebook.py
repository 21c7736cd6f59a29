"""The codebook: for each row's note, the vector that the language model is shown for it.

A code starts as the model's own embedding of the note's words, and training moves it; the values of a vocabulary
share one table over all rows, and every row adds a vector of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.notes import FIELDS, NUM_ROWS, VALUES

Embed = Callable[[str], Tensor]  # a note's own embedding [C]


class Codebook(nn.Module):
    """Codes of notes, and how well rows say them."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self.tables = nn.ParameterDict(
            {
                name: nn.Parameter(torch.stack([embed(value) for value in values]))
                for name, values in VALUES.items()
                if values
            }
        )  # each [values][C]
        width = next(iter(self.tables.values())).shape[1]
        self.offsets = nn.Parameter(torch.zeros(NUM_ROWS, width))
        # A row that says nothing starts as a full stop.
        self.nothing = nn.Parameter(embed(".").repeat(NUM_ROWS, 1))
        self.log_sharpness = nn.Parameter(torch.tensor(0.7))
        self._groups = {
            name: [row for row, field in enumerate(FIELDS) if field.values == name] for name in VALUES
        }

    def forward(self, notes: Tensor) -> Tensor:
        """notes [B][64], codes of values → rows [B][64][C]."""
        rows = self.nothing.expand(len(notes), -1, -1).clone()
        for name, members in self._groups.items():
            candidates = self.candidates(name)  # [k][n + 1][C]
            values = notes[:, members]  # [B][k]
            rows[:, members] = candidates[torch.arange(len(members), device=values.device), values]
        return rows

    def candidates(self, name: str) -> Tensor:
        """What the rows of a vocabulary could be, [k][n + 1][C], "nothing" first."""
        members = self._groups[name]
        nothing = self.nothing[members][:, None]
        if name not in self.tables:
            return nothing
        return torch.cat([nothing, self.tables[name] + self.offsets[members][:, None]], 1)

    def logits(self, rows: Tensor, name: str) -> Tensor:
        """How near the rows of a vocabulary lie to its codes, [B][k][n + 1]."""
        candidates = self.candidates(name).detach()
        members = rows[:, self._groups[name]]
        middle = candidates.mean(1, keepdim=True)
        away = candidates - middle
        product = torch.einsum("bkc,knc->bkn", members - middle[:, 0], away)
        return self.log_sharpness.exp() * (product - away.square().sum(-1) / 2)

    def loss(self, rows: Tensor, notes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """How far rows [B][64][C] are from saying the notes [B][64], and the share of notes said by vocabulary."""
        choices = rows.new_zeros(())
        shares: dict[str, Tensor] = {}
        for name in self.tables:
            logits, values = self.logits(rows, name), notes[:, self._groups[name]]
            is_said = (values > 0).float()
            weights = is_said + 0.25 * (1 - is_said)  # most rows say nothing
            each = functional.cross_entropy(logits.flatten(0, 1), values.flatten(), reduction="none")
            choices = choices + (each * weights.flatten()).sum() / len(rows)
            right = (logits.detach().argmax(-1) == values).float() * is_said
            shares[name] = right.sum() / is_said.sum().clamp(min=1)
        with torch.no_grad():
            wanted = self(notes)
            # The unit of distance: how far codes lie from "nothing".
            spread = (wanted - self.nothing)[notes > 0].square().mean().clamp(min=1e-6)
        distance = (rows - wanted).square().mean() / spread
        return 0.1 * choices + distance, shares
