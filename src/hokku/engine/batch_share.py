"""How much of a step requests of batches may fill, so that whoever asks next does not wait long for the step to end.

A newcomer waits for the step under way. So a step with requests of batches is to last no longer than a set time: a
short one while people come, since they then come at any moment, and a longer one once nobody has come for a while,
since few rows make poor use of the weights that each step reads. How many rows that is hangs on the model, the machine
and how far back the rows look, and is learned from the steps that were run: it decides when a batch's tokens come,
never which.
"""

from __future__ import annotations

from typing import Final

# Where more rows fit, a batch soon has them; where not, nobody has waited long.
_FIRST_ROWS: Final = 32
# What a batch gets of a step also where others fill it: as low as its priority is, it goes on.
_LEAST_ROWS: Final = 4
# A step of twice its time, which the machine may be to blame for, takes an eighth of the rows away.
_RATE: Final = 1 / 4
# What steps with a smaller part of the allowed rows took says nothing of those with all of them.
_TELLING_PART: Final = 3 / 4
# So long without anybody else, in seconds of steps, and a batch is alone. Most people take longer to read an answer;
# but where one of several asks every second or two, each of them is to find short steps.
_ALONE_SECS: Final = 2.0


class RowLimit:
    """How many rows a step may have to last about so long.

    Args:
        step_secs: how long; 0: no matter.
        max_rows: rows of the largest step.
    """

    def __init__(self, step_secs: float, max_rows: int) -> None:
        self._step_secs = step_secs
        self._max_rows = max_rows
        self._rows = float(min(_FIRST_ROWS, max_rows) if step_secs else max_rows)

    @property
    def num_rows(self) -> int:
        """The limit."""
        return int(self._rows)

    def learn(self, num_rows: int, seconds: float) -> None:
        """A step under this limit had so many rows and took so long."""
        is_telling = num_rows >= self.num_rows * _TELLING_PART or seconds > self._step_secs
        if self._step_secs and is_telling:
            fitting = num_rows * self._step_secs / max(seconds, self._step_secs / self._max_rows)
            rows = self._rows + (fitting - self._rows) * _RATE
            self._rows = min(max(rows, _LEAST_ROWS), self._max_rows)


class BatchShare:
    """How many rows of the steps requests of batches may have.

    Args:
        step_secs: how long a step with such requests should last at most while others come; 0: no matter how long.
        lone_step_secs: the same once nobody else has come for a while.
        max_rows: rows of the largest step.
    """

    def __init__(self, step_secs: float, lone_step_secs: float, max_rows: int) -> None:
        self._max_rows = max_rows
        self._beside_others = RowLimit(step_secs, max_rows)
        self._alone = RowLimit(lone_step_secs, max_rows)
        self._secs_alone = 0.0

    def rows_beside(self, num_rows: int) -> int:
        """Rows for batches in a step that has `num_rows` of others."""
        return min(max(self._limit.num_rows - num_rows, _LEAST_ROWS), self._max_rows - num_rows)

    def learn(self, num_batch_rows: int, num_rows: int, seconds: float) -> None:
        """A step had `num_rows`, so many of them of batches, and took so long."""
        if num_batch_rows:
            self._limit.learn(num_rows, seconds)
        self._secs_alone = self._secs_alone + seconds if num_batch_rows == num_rows else 0.0

    @property
    def _limit(self) -> RowLimit:
        return self._alone if self._secs_alone >= _ALONE_SECS else self._beside_others
