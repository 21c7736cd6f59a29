"""Pictures as a model reads them: cut into tiles of pixels, each of which stands for a run of rows in the prompt.

Where a prompt has token ids, a tile has *row ids*: negative numbers made from a digest of its pixels. Whatever works
with prompts by their ids (shared prefixes, cache entries, sampling seeds) so tells pictures apart, and knows one again
that came from another file or address, without ever looking at a picture.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [height][width][3], red, green, blue
# How a family's pictures are resized, cut up and written into the prompt.
TilingKind = Literal["single", "idefics3", "qwen2_5_vl"]
Resampling = Literal["bilinear", "bicubic", "lanczos"]

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Tiling:
    """What a model wants of a picture, by its `preprocessor_config.json`.

    single: the whole picture in one tile of `edge` by `edge` pixels, whatever its shape was.
    idefics3: the longer edge becomes `longest_edge`; the picture is cut into tiles of `edge` by `edge`, and a small
        version of the whole, which may be all there is, is the last tile (Marafioti et al. 2025, "SmolVLM").
    qwen2_5_vl: one tile of any size, its edges multiples of `edge`, its pixels between `min_pixels` and `max_pixels`
        (Bai et al. 2025, "Qwen2.5-VL", "smart resize").
    """

    kind: TilingKind
    edge: int  # pixels
    rows_a_tile: int = (
        0  # rows of the prompt that a tile stands for; qwen2_5_vl: one for each edge by edge pixels
    )
    longest_edge: int = 0  # pixels
    min_pixels: int = 0
    max_pixels: int = 0
    resampling: Resampling = "lanczos"

    def num_rows(self, height: int, width: int) -> int:
        """Rows of the prompt that a tile of so many pixels stands for."""
        return self.rows_a_tile or (height // self.edge) * (width // self.edge)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Pixels that are encoded at once."""

    pixels: Pixels
    num_rows: int
    digest: bytes = field(init=False)  # of the pixels and their arrangement

    def __post_init__(self) -> None:
        digest = hashlib.blake2b(repr((self.pixels.shape, self.num_rows)).encode(), digest_size=_DIGEST_BYTES)
        digest.update(self.pixels.tobytes())
        object.__setattr__(self, "digest", digest.digest())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width, _ = self.pixels.shape
        return height, width

    def row_ids(self) -> array[int]:
        """A negative number for each row: 31 bits that the digest and the row's number give."""
        stream = b"".join(_blocks(self.digest, self.num_rows * 4))
        ids = array("i", np.frombuffer(stream, "<i4", self.num_rows).tolist())
        return array("i", (row_id | -(1 << 31) for row_id in ids))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture cut up for one model: `grid` rows and columns of tiles, then the whole made small; or one tile."""

    tiles: tuple[Tile, ...]
    grid: tuple[int, int] = (0, 0)


def _blocks(digest: bytes, num_bytes: int) -> Iterator[bytes]:
    for number in range(-(-num_bytes // hashlib.blake2b.MAX_DIGEST_SIZE)):
        yield hashlib.blake2b(number.to_bytes(8, "little"), key=digest).digest()
