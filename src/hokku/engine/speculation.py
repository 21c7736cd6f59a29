"""Speculation: how many drafted tokens a step should try.

A step of few rows spends its time on reading weights, so that further rows cost little. Drafts of
`prompt_lookup.py` ride along as such rows; each draws with its own counter, as it would in a step of its own, and
what they draw is kept as far as it is what was drafted. A draft thus decides how soon a token comes, never which.

How many rows to add follows from what the step is expected to yield: tokens over seconds (the goodput of Liu et al.
2024, "Optimizing Speculative Decoding for Serving Large Language Models Using Goodput"). Both are learned while
running, since texts, models and machines differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from hokku.engine.constraint import num_free
from hokku.engine.prompt_lookup import PromptLookup
from hokku.engine.request import Chunk
from hokku.kernels.program import PAGE_TOKENS

# Drafts must promise this many times the tokens a second, for neither side of the estimate is exact.
_LEAST_GAIN: Final = 1.02
# A request then needs one page more at most.
_MAX_DRAFT_TOKENS: Final = PAGE_TOKENS - 1
_UNKNOWN: Final = float("inf")


class StepTimes:
    """Seconds that a step takes by its number of rows, up to `max_rows`, learned from steps that were run.

    What was never measured is taken from its neighbours. Beyond the largest number known, up to twice as many rows
    are believed to cost nothing more: so they are tried once, and then known.
    """

    # What is not measured for long shrinks, so that one mishap is not held against it for ever.
    _SHRINK: Final = 1 - 1 / 1024
    _RATE: Final = 1 / 8
    # What is measured for the first time is believed up to so many times the estimate: on a busy machine a step may
    # take twice its time, and a number of rows that begins with that would not be tried again for long.
    _FIRST_SURPRISE: Final = 1.5

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.estimates: list[float] = [_UNKNOWN] * (max_rows + 1)  # seconds by number of rows, never falling
        self._measured: list[float] = [0.0] * (max_rows + 1)  # 0 is never

    def learn(self, num_rows: int, seconds: float) -> None:
        """A step of `num_rows`, at most `max_rows`, has taken `seconds`; twice the estimate at most is believed."""
        seconds = min(seconds, 2 * self.estimates[num_rows])
        self._measured = [value * self._SHRINK for value in self._measured]
        before = self._measured[num_rows] or min(seconds, self._FIRST_SURPRISE * self.estimates[num_rows])
        self._measured[num_rows] = before + (seconds - before) * self._RATE
        self._estimate()

    def _estimate(self) -> None:
        known = [rows for rows, seconds in enumerate(self._measured) if seconds]
        estimates = [_UNKNOWN] * (self.max_rows + 1)
        ceiling = _UNKNOWN
        for rows in reversed(known):  # when more rows have taken less, these had bad luck
            ceiling = estimates[rows] = min(ceiling, self._measured[rows])
        for low, high in pairwise(known):
            slope = (estimates[high] - estimates[low]) / (high - low)
            for rows in range(low + 1, high):
                estimates[rows] = estimates[low] + slope * (rows - low)
        first, last = known[0], known[-1]
        for rows in (*range(first), *range(last + 1, min(2 * last, self.max_rows) + 1)):
            estimates[rows] = estimates[first if rows < first else last]
        self.estimates = estimates


class Speculator:
    """Adds drafts to steps of at most `max_rows` rows in all, where that should pay; with 0 it never does."""

    def __init__(self, max_rows: int) -> None:
        self._times = StepTimes(max_rows)

    def drafts(self, chunks: Sequence[Chunk]) -> dict[int, Sequence[int]]:
        """Tokens to try behind a chunk, by its index. The chunks are a whole step."""
        num_rows = sum(chunk.num_rows for chunk in chunks)
        longest = min(_MAX_DRAFT_TOKENS, self._times.max_rows - num_rows)
        if longest <= 0:
            return {}
        drafts: dict[int, Sequence[int]] = {}
        offers: list[tuple[float, int]] = []
        for index, (running, end, _, _) in enumerate(chunks):
            room = min(longest, running.request.max_tokens - end - 1)
            if running.num_remaining == 1 and room > 0:
                lookup = running.request.lookup = running.request.lookup or PromptLookup()
                draft = lookup.draft(running.request.tokens, room)
                drafts[index] = draft[: num_free(running.request, draft)]
                offers.extend(
                    (chance, index) for chance, _ in zip(lookup.chances(), drafts[index], strict=False)
                )
        # Likeliest first; within a draft that is in order, for a token cannot come true without those before it.
        offers.sort(reverse=True)
        num_drawn = sum(chunk.samples for chunk in chunks)
        chances = [chance for chance, _ in offers[: self._times.max_rows - num_rows]]
        num_taken = self._num_worth_taking(chances, num_drawn, num_rows)
        lengths = Counter(index for _, index in offers[:num_taken])
        return {index: drafts[index][:length] for index, length in lengths.items()}

    def learn(self, chunks: Sequence[Chunk], seconds: float) -> None:
        """These chunks have just run in `seconds`; nothing of the result has been taken in yet."""
        num_rows = sum(1 + len(chunk.draft) for chunk in chunks)
        is_decode = all(chunk.running.num_remaining == 1 for chunk in chunks)
        if is_decode and num_rows <= self._times.max_rows:
            self._times.learn(num_rows, seconds)

    def _num_worth_taking(self, chances: Sequence[float], num_drawn: int, num_rows: int) -> int:
        """How many rows to add to a step of `num_rows` that draws `num_drawn` tokens, for the most tokens a
        second."""
        seconds = self._times.estimates
        num_taken, best_rate = 0, num_drawn / seconds[num_rows] * _LEAST_GAIN
        num_expected = float(num_drawn)
        for number, chance in enumerate(chances, 1):
            num_expected += chance
            rate = num_expected / seconds[num_rows + number]
            if rate > best_rate:
                num_taken, best_rate = number, rate
        return num_taken
