"""Prompt caching as the API tells it: from breakpoints to the engine's cache points, and from what the engine found to
usage (wire.md section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from hokku.protocol.engine import CachePoint
from hokku.protocol.events import Usage

# Blocks at which an entry of an earlier request is looked for: a breakpoint's own and those before it.
LOOK_BACK_BLOCKS = 20
LONG_SECS = 3600  # lifetimes from here on are booked as "1h"


def cache_points(blocks: Sequence[CachePoint], min_tokens: int) -> tuple[CachePoint, ...]:
    """Where a prompt's entries may end: at its breakpoints, and for looking only at the blocks before each.

    Args:
        blocks: the end of every block, in the order of section 6.1; those with a lifetime are breakpoints.
        min_tokens: the shortest prefix that is kept.
    """
    lifetimes: dict[int, int | None] = {}
    for index, block in enumerate(blocks):
        if block.lifetime_secs is None:
            continue
        for earlier in blocks[max(0, index + 1 - LOOK_BACK_BLOCKS) : index]:
            lifetimes.setdefault(earlier.num_tokens, None)
        known = lifetimes.get(block.num_tokens)
        lifetimes[block.num_tokens] = max(known or 0, block.lifetime_secs)
    return tuple(CachePoint(*point) for point in sorted(lifetimes.items()) if point[0] >= min_tokens)


def prompt_usage(points: Sequence[CachePoint], num_prompt_tokens: int, num_read_tokens: int) -> Usage:
    """Section 6.5, with nothing generated yet.

    Args:
        points: what the engine was given.
        num_prompt_tokens: of the whole prompt, T.
        num_read_tokens: where the longest entry found ends, A.
    """
    breakpoints = [
        (point.num_tokens, point.lifetime_secs) for point in points if point.lifetime_secs is not None
    ]
    long_end = max([num_read_tokens, *(end for end, secs in breakpoints if secs >= LONG_SECS)])  # B
    end = max([long_end, *(end for end, _ in breakpoints)])  # C
    return Usage(
        input_tokens=num_prompt_tokens - end,
        output_tokens=0,
        cache_read_tokens=num_read_tokens,
        cache_write_5m_tokens=end - long_end,
        cache_write_1h_tokens=long_end - num_read_tokens,
    )
