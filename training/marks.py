"""What lies on each patch: labels the tower is taught by while it trains, and never asked for afterwards.

A picture's notes are 64 facts, most of them about the whole; what lies on its 256 patches is as many again, each about
a few pixels. A tower that is taught both learns to see from a fraction of the pictures. Its first layers are taught
where there is ink at all, whatever its colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.pictures import CROWD, TILE_EDGE, Mark, Picture
from training.vocabulary import COLOURS, DIGITS, LETTERS, PLACES, SIZES, THINGS

GRID = 16  # patches along an edge
FINE = 4  # inked cells along a patch's edge
UNKNOWN = -1  # nobody says what lies there
# By name, what a patch can be told to show; 0 of each is "nothing".
LABELS: dict[str, tuple[str, ...]] = {
    "what": (*THINGS, *LETTERS, *DIGITS),
    "ink": tuple(COLOURS),
    "size": SIZES,
    "turn": tuple(map(str, range(1, len(PLACES) + 1))),
}
_LEAST_DIFFERENCE = 60  # of a cell's mean to what lies behind, summed over red, green and blue
_CODES = {name: {value: code for code, value in enumerate(values, 1)} for name, values in LABELS.items()}


def labelled(picture: Picture) -> NDArray[np.int16]:
    """Labels [4][256] in the order of `LABELS`; all `UNKNOWN` where a picture has no marks."""
    if picture.marks is None:
        return np.full((len(LABELS), GRID**2), UNKNOWN, np.int16)
    labels = np.zeros((len(LABELS), GRID, GRID), np.int16)
    for mark in picture.marks:
        values = (mark.name, mark.colour, mark.size, str(mark.turn))
        codes = [_CODES[name].get(value, 0) for name, value in zip(LABELS, values, strict=True)]
        if codes[0]:  # not a space
            labels[:, *_patches(mark)] = np.array(codes, np.int16)[:, None, None]
    if picture.kind == CROWD:
        labels[2:] = UNKNOWN  # neither sizes nor an order are meant there
    return labels.reshape(len(LABELS), -1)


def inked(picture: Picture) -> NDArray[np.uint8]:
    """Which of a patch's 4×4 cells differ from the picture's commonest colour: 1 or 0, [256][16]."""
    cell = TILE_EDGE // (GRID * FINE)
    cells = np.asarray(Image.fromarray(picture.pixels).reduce(cell), np.float32)  # means, faster than numpy's
    coarse = (cells.reshape(-1, 3) // 16).astype(np.int32) @ np.array([256, 16, 1])
    behind = np.median(cells.reshape(-1, 3)[coarse == np.bincount(coarse).argmax()], 0)
    is_inked = np.abs(cells - behind).sum(-1) > _LEAST_DIFFERENCE
    blocks = is_inked.reshape(GRID, FINE, GRID, FINE).swapaxes(1, 2)
    return np.ascontiguousarray(blocks.reshape(GRID**2, FINE**2), np.uint8)


def _patches(mark: Mark) -> tuple[slice, slice]:
    """The lines and columns of the patches whose middles lie in a mark's box; the nearest where none does."""
    left, top, right, bottom = mark.box
    return _range(top, bottom), _range(left, right)


def _range(low: float, high: float) -> slice:
    first, end = round(low * GRID), round(high * GRID)
    if end <= first:
        first = int((low + high) / 2 * GRID)
        end = first + 1
    first = min(max(first, 0), GRID - 1)
    return slice(first, max(min(end, GRID), first + 1))
