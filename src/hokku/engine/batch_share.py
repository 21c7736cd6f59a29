"""How much of a step requests of batches may fill, so that whoever asks next does not wait long for the step to end.

A newcomer waits for the step under way. So a step with requests of batches is to last no longer than a set time. How
many rows that is hangs on the model, the machine and how far back the rows look, and is learned from the steps that
were run: it decides when a batch's tokens come, never which.
"""

from __future__ import annotations

from typing import Final

# Where the steps are short however many rows they have, a batch soon has them all; where not, nobody has waited long.
_FIRST_ROWS: Final = 32
# What a batch gets of a step also where others fill it: as low as its priority is, it goes on.
_LEAST_ROWS: Final = 4
# A step of twice its time, which the machine may be to blame for, takes an eighth of the rows away.
_RATE: Final = 1 / 4
# What steps with a smaller part of the allowed rows took says nothing of those with all of them.
_TELLING_PART: Final = 3 / 4


class BatchShare:
    """How many rows steps with requests of batches may have.

    Args:
        step_secs: how long such a step should take at most; 0: no matter how long.
        max_rows: rows of the largest step.
    """

    def __init__(self, step_secs: float, max_rows: int) -> None:
        self._step_secs = step_secs
        self._max_rows = max_rows
        self._rows = float(min(_FIRST_ROWS, max_rows) if step_secs else max_rows)

    def rows_beside(self, num_rows: int) -> int:
        """Rows for batches in a step that has `num_rows` of others."""
        return min(max(int(self._rows) - num_rows, _LEAST_ROWS), self._max_rows - num_rows)

    def learn(self, num_rows: int, seconds: float) -> None:
        """A step with requests of batches had so many rows, all together, and took so long."""
        is_telling = num_rows >= int(self._rows) * _TELLING_PART or seconds > self._step_secs
        if self._step_secs and is_telling:
            fitting = num_rows * self._step_secs / max(seconds, self._step_secs / self._max_rows)
            rows = self._rows + (fitting - self._rows) * _RATE
            self._rows = min(max(rows, _LEAST_ROWS), self._max_rows)
