"""Encodes tiles on the native program: what `engine/vision.py` calls its encoder."""

from __future__ import annotations

from hokku.kernels import KvFormat, NativeProgram, PagePool, ThreadPool, WeightFormat
from hokku.kernels.program import F32
from hokku.models.vision.tower import Tower
from hokku.protocol.pictures import Tile


class TileEncoder:
    """A tower, packed and recorded.

    A tile's rows depend on the tile alone; in int8 they are the same bits on every path of the kernels.

    Args:
        tower: whose weights are read here.
        threads: who works; best the language model's own.
        weight_format: INT8 or BF16, and with it how attention multiplies.
        isa: a kernel path by name; by default HOKKU_ISA's, or the widest this machine runs.

    Raises:
        BadModelFile: the tower's weights.
    """

    def __init__(
        self,
        tower: Tower,
        threads: ThreadPool,
        weight_format: WeightFormat = WeightFormat.INT8,
        isa: str | None = None,
    ) -> None:
        self._tower = tower
        self._weights = tower.packed(weight_format)
        kv_format = KvFormat.INT8 if weight_format is WeightFormat.INT8 else KvFormat.BF16
        pool = PagePool(1, tower.most_pages, tower.config.heads, tower.config.padded_head_dim, kv_format)
        self.program = NativeProgram(tower.most_patches, tower.most_rows, pool, threads, isa)
        _, self._rows = tower.record(self.program, self._weights)
        self._codebook = tower.codebook()

    def encode(self, tile: Tile) -> F32:
        """[tile.num_rows][C]. Raises `ValueError` for a tile of a size that the tower does not take."""
        connected = self.connected(tile)
        return connected if self._codebook is None else self._codebook.rows(self._codebook.words(connected))

    def connected(self, tile: Tile) -> F32:
        """What the connector gives [tile.num_rows][..]: rows, or where there is a codebook scores of its words."""
        self.program.run(self._tower.step(tile.pixels))
        return self.program.view(self._rows).copy()
