"""What the measure of pictures is made of."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from benchmarks.pictures import EDGE, FirstToken, Prefill, jpeg, tables_of, write_random_eyes
from PIL import Image

from hokku.kernels import ThreadPool
from hokku.models.vision import TileEncoder
from hokku.models.vision.tower import open_tower
from hokku.protocol.pictures import Tile


def test_random_eyes_are_eyes(tmp_path: Path) -> None:
    tower = open_tower(write_random_eyes(tmp_path, 64, 1))
    rows = TileEncoder(tower, ThreadPool(1)).encode(Tile(np.zeros((256, 256, 3), np.uint8), 64))
    assert rows.shape == (64, 576)
    assert np.isfinite(rows).all()


def test_each_picture_is_a_new_one() -> None:
    assert len({jpeg(number) for number in range(3)}) == 3
    assert Image.open(io.BytesIO(jpeg(1))).size == (EDGE, EDGE)


def test_the_tables() -> None:
    first, second = tables_of([FirstToken("new", 100.0, 120.0, 9)], [Prefill(2, 300, 900.0, 1000.0, 0.9)])
    assert [list(column.cells) for column in first.columns] == [["new"], ["100 ms"], ["120 ms"]]
    assert list(second.columns[-1].cells) == ["90%"]
