"""Sees to it that a picture's rows are there when a prefill comes to them.

A tile is encoded on the engine's own thread, between two steps and at most one at a time, so that those who are
writing wait for one tile and not for a whole album. What comes out is kept by the tile's digest: requests that show the
same picture share it, at the same time or later. Tiles whose rows are in the prefix cache are never encoded.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from hokku.engine.request import RunningRequest
from hokku.kernels.program import F32
from hokku.protocol.pictures import Tile

_log = logging.getLogger(__name__)


class Encoder(Protocol):
    """What turns pixels into rows of the width of the model's embeddings."""

    def encode(self, tile: Tile) -> F32:
        """[tile.num_rows][C]. They depend on the tile alone, to the bit. Takes from 10 ms to seconds."""


class Eyes:
    """An encoder, and the memory of what it has seen last.

    Args:
        max_bytes: of features that are kept, beside those that requests are just reading.
    """

    def __init__(self, encoder: Encoder, max_bytes: int = 64 << 20) -> None:
        self._encoder = encoder
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[bytes, F32] = OrderedDict()  # by digest, least recently used first
        self.num_encoded = 0

    def look(self, running: Iterable[RunningRequest]) -> tuple[RunningRequest, Exception] | None:
        """Give the requests what is known of their tiles, and the first that lacks one its next; who failed over it,
        if the encoder did."""
        for each in running:
            for index in each.tiles_to_see():
                tile = each.request.generation.tiles[index].tile
                features = self._known(tile)
                if features is None:
                    try:
                        features = self._encode(tile)
                    except Exception as error:
                        _log.exception("a picture could not be encoded")
                        return each, error
                    each.features[index] = features
                    return None
                each.features[index] = features
        return None

    def _known(self, tile: Tile) -> F32 | None:
        features = self._kept.get(tile.digest)
        if features is not None:
            self._kept.move_to_end(tile.digest)
        return features

    def _encode(self, tile: Tile) -> F32:
        features = self._encoder.encode(tile)
        if len(features) != tile.num_rows:
            raise ValueError(f"a tile of {tile.num_rows} rows was encoded to {len(features)}")
        self.num_encoded += 1
        self._kept[tile.digest] = features
        self._num_bytes += features.nbytes
        while self._num_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= oldest.nbytes
        return features
