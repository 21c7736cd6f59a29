"""Encodes tiles on the native program: what `engine/vision.py` calls its encoder."""

from __future__ import annotations

from hokku.kernels import KvFormat, NativeProgram, PagePool, ThreadPool, WeightFormat
from hokku.kernels.program import F32, PAGE_TOKENS
from hokku.models.vision.idefics3 import record, step
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
        self._config = config = tower.config
        self._weights = tower.packed(weight_format)
        num_patches = config.patches**2
        kv_format = KvFormat.INT8 if weight_format is WeightFormat.INT8 else KvFormat.BF16
        num_pages = -(-num_patches // PAGE_TOKENS)
        pool = PagePool(1, num_pages, config.heads, config.padded_head_dim, kv_format)
        self.program = NativeProgram(num_patches, config.rows, pool, threads, isa)
        self._hidden, self._rows = record(self.program, config, self._weights)

    def encode(self, tile: Tile) -> F32:
        """[tile.num_rows][C]. Raises `ValueError` for a tile of another size than the tower's."""
        edge = self._config.edge
        if tile.size != (edge, edge):
            raise ValueError(f"tile: is of {tile.size[0]} by {tile.size[1]} pixels, not {edge} by {edge}")
        self.program.run(step([tile.pixels], self._config))
        return self.program.view(self._rows).copy()
