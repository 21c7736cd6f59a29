"""Counts and histograms that cost nothing to have: dictionaries, in which each combination of label values is written
by one thread alone.

`prometheus_client` would take 3 MB and a tenth of the start to be there for servers that nobody scrapes, and a lock for
every count. So it is loaded at the first scrape (`metrics.py`) and given what stands here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counter:
    """Sums that only grow, one for each combination of label values."""

    name: str  # without the `_total` that the text format adds
    words: str
    labels: Labels
    sums: dict[Labels, float] = field(default_factory=dict)

    def add(self, *values: str, amount: float = 1) -> None:
        """Count. One value for each label, in their order."""
        self.sums[values] = self.sums.get(values, 0) + amount


@dataclass(slots=True)
class Distribution:
    """How often values fell into each bucket; the last one is for those over every bound."""

    counts: list[int]
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distributions over the same bounds, one for each combination of label values."""

    name: str
    words: str
    labels: Labels
    bounds: Sequence[float]  # ascending; a value on a bound belongs to it
    rows: dict[Labels, Distribution] = field(default_factory=dict)

    def observe(self, *values: str, value: float) -> None:
        """Take a value in."""
        row = self.rows.get(values)
        if row is None:
            row = self.rows[values] = Distribution([0] * (len(self.bounds) + 1))
        row.counts[bisect_left(self.bounds, value)] += 1
        row.total += value
