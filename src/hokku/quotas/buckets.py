"""Token buckets (wire.md section 10): a bucket holds a minute's worth, is full at first, and fills continuously.

All amounts are whole. A level is kept in sixty-millionths: a limit of one a minute refills one of them a microsecond,
and nothing is ever rounded.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hokku.protocol.records import BEGINNING, MICROSECOND, Level

SCALE: Final = 60_000_000  # microseconds of a minute, and parts of a unit
# What a Lua number, a double, holds exactly.
MAX_PER_MINUTE: Final = 2**53 // SCALE
_MOST_BUCKETS = 100_000


@dataclass(frozen=True, slots=True)
class Take:
    """`amount` out of the bucket called `key`, which holds and refills `per_minute`; less than none gives back."""

    key: str
    per_minute: int
    amount: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of several takes: all of them happened, or none because of `lacking`.

    `retry_after_secs` is when the lacking bucket will have enough; a minute where it never can.
    """

    levels: tuple[Level, ...]
    lacking: int | None = None  # which take could not be served
    retry_after_secs: int = 0


class Buckets(Protocol):
    """Where levels are kept."""

    async def take(self, takes: Sequence[Take]) -> Taken:
        """Take from every bucket, or from none if one has too little. Raises `StorageUnavailable`."""

    async def settle(self, takes: Sequence[Take]) -> tuple[Level, ...]:
        """Correct what was taken before, whatever is left: a level may fall below nothing. Raises
        `StorageUnavailable`."""

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


class LocalBuckets:
    """Levels in this process. Used on one event loop, whose turns are all the locking that it needs.

    Args:
        clock: microseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1_000) -> None:
        self._clock = clock
        self._levels: OrderedDict[str, tuple[int, int]] = OrderedDict()  # scaled level, and when it was so

    async def take(self, takes: Sequence[Take]) -> Taken:
        """See `Buckets`."""
        now = self._clock()
        levels = [self._level(take, now) for take in takes]
        for place, (take, level) in enumerate(zip(takes, levels, strict=True)):
            if take.amount * SCALE > level:
                wait = retry_after_secs(take, level)
                return Taken(tuple(map(shown, takes, levels, [now] * len(takes))), place, wait)
        return Taken(self._kept(takes, levels, now))

    async def settle(self, takes: Sequence[Take]) -> tuple[Level, ...]:
        """See `Buckets`."""
        now = self._clock()
        return self._kept(takes, [self._level(take, now) for take in takes], now)

    async def close(self) -> None:
        """See `Buckets`."""

    def _level(self, take: Take, now: int) -> int:
        level, at = self._levels.get(take.key, (take.per_minute * SCALE, now))
        return min(take.per_minute * SCALE, level + max(0, now - at) * take.per_minute)

    def _kept(self, takes: Sequence[Take], levels: Sequence[int], now: int) -> tuple[Level, ...]:
        after = []
        for take, level in zip(takes, levels, strict=True):
            left = min(take.per_minute * SCALE, level - take.amount * SCALE)
            self._levels[take.key] = (left, now)
            self._levels.move_to_end(take.key)
            after.append(shown(take, left, now))
        while len(self._levels) > _MOST_BUCKETS:  # one that was not used for so long is full again
            self._levels.popitem(last=False)
        return tuple(after)


def shown(take: Take, level: int, now: int) -> Level:
    """A scaled level as people read it."""
    missing = take.per_minute * SCALE - level
    wait = -(-missing // take.per_minute)
    return Level(take.per_minute, max(0, level // SCALE), BEGINNING + (now + wait) * MICROSECOND)


def retry_after_secs(take: Take, level: int) -> int:
    """Whole seconds until the bucket has enough."""
    if take.amount > take.per_minute:
        return 60
    missing = take.amount * SCALE - level
    return max(1, -(-missing // (take.per_minute * 1_000_000)))
