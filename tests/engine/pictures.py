"""Prompts with pictures in them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from hokku.protocol.engine import PromptTile
from hokku.protocol.pictures import Tile


@cache
def tile(number: int, num_rows: int = 20) -> Tile:
    """A small tile, each number another one."""
    return Tile(np.full((2, 3, 3), number, np.uint8), num_rows)


def with_tiles(prompt: Sequence[int], *places: tuple[int, Tile]) -> tuple[list[int], tuple[PromptTile, ...]]:
    """The prompt with the rows of tiles in place of what stood there, in ascending order."""
    ids = list(prompt)
    placed = tuple(PromptTile(start, each) for start, each in places)
    for each in placed:
        ids[each.start : each.end] = each.tile.row_ids()
    return ids, placed
