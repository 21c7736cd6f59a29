"""Eyes whose rows are words: scores in, the likeliest word's vector out, whatever path the kernels take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from hokku.kernels import ThreadPool, WeightFormat, available_isas
from hokku.kernels.program import F32
from hokku.kernels.reference import ReferenceProgram
from hokku.models.vision.config import VisionConfig
from hokku.models.vision.encoder import TileEncoder
from hokku.models.vision.tower import Tower, open_tower
from hokku.protocol.errors import BadModelFile, HokkuError
from hokku.protocol.pictures import Tile
from tests.house.towers import EDGE, ROWS, write_tower

WORDS, LINE, WIDTH = 37, 2, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tower(tmp_path_factory.mktemp("eyes"), WIDTH, words=WORDS, line=LINE)


@pytest.fixture(scope="module")
def tower(folder: Path) -> Tower:
    return open_tower(folder)


def tiles() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (EDGE, EDGE, 3)).astype(np.uint8) for _ in range(16)]


def encoded(tower: Tower, weight_format: WeightFormat, isa: str | None = None) -> F32:
    encoder = TileEncoder(tower, ThreadPool(2), weight_format, isa)
    return np.stack([encoder.encode(Tile(tile, ROWS)) for tile in tiles()])


def float_scores(tower: Tower, tile: NDArray[np.uint8]) -> F32:
    assert isinstance(tower.config, VisionConfig)
    program = ReferenceProgram(kv_heads=tower.config.heads, head_dim=tower.config.padded_head_dim)
    _, scores = tower.record(program, tower.floats())
    program.run(tower.step(tile))
    return program.view(scores)


def by_hand(scores: F32, folder: Path) -> tuple[F32, float]:
    """Rows, word by word, and by how much the likeliest words are ahead of the next."""
    read = load_file(folder / "model.safetensors")
    table, lent, to_all = (read[f"model.codebook.{name}"] for name in ("table", "lent", "lent_to_all"))
    in_all = scores + read["model.connector.habits"]
    said = [int(np.argmax(row)) for row in in_all]
    rows = []
    for number, word in enumerate(said):
        line = [said[other] for other in range(ROWS) if other // LINE == number // LINE]
        around = sum(lent[other] for other in line) / LINE + sum(to_all[other] for other in said) / ROWS
        rows.append(table[word] + read["model.codebook.offsets"][number] + around)
    second, first = np.sort(in_all, axis=1)[:, -2:].T
    return np.array(rows, np.float32), float((first - second).min())


def test_a_row_is_its_words_vector_with_what_others_lend(tower: Tower, folder: Path) -> None:
    native = encoded(tower, WeightFormat.BF16)
    num_clear = 0
    for tile, rows in zip(tiles(), native, strict=True):
        expected, lead = by_hand(float_scores(tower, tile), folder)
        if lead > 0.02:  # what bfloat16 does not turn round
            num_clear += 1
            np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)
    assert num_clear > 2
    assert len(np.unique(native.reshape(-1, WIDTH), axis=0)) > ROWS  # not one word for all


@pytest.mark.parametrize("isa", available_isas())
def test_in_integers_every_path_says_the_same_to_the_bit(tower: Tower, isa: str) -> None:
    np.testing.assert_array_equal(
        encoded(tower, WeightFormat.INT8, isa), encoded(tower, WeightFormat.INT8, "portable")
    )


def test_the_first_of_words_with_equal_scores_is_said(tower: Tower) -> None:
    codebook = tower.codebook()
    assert codebook is not None
    level = -codebook.habits
    assert codebook.words(level).tolist() == [0] * ROWS


@pytest.mark.parametrize(
    "change",
    [
        {"model.codebook.table": np.zeros((WORDS, WIDTH + 1), np.float32)},
        {"model.codebook.offsets": np.zeros((ROWS + 1, WIDTH), np.float32)},
        {"model.connector.habits": np.full((ROWS, WORDS), np.nan, np.float32)},
        {"model.codebook.lent": None},
    ],
)
def test_a_codebook_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, NDArray[np.float32] | None]
) -> None:
    folder = write_tower(tmp_path, WIDTH, words=WORDS, line=LINE)
    tensors = {**load_file(folder / "model.safetensors"), **change}
    save_file(
        {name: each for name, each in tensors.items() if each is not None}, folder / "model.safetensors"
    )
    with pytest.raises(BadModelFile):
        open_tower(folder).codebook()


@pytest.mark.parametrize("codebook", [{"words": 37, "line": 3}, {"words": -1}, {"words": "many"}, 7])
def test_a_codebook_of_strange_numbers_is_refused(tmp_path: Path, codebook: object) -> None:
    folder = write_tower(tmp_path, WIDTH)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"codebook": codebook}))
    with pytest.raises(HokkuError):
        open_tower(folder)


def test_a_change_of_the_file_is_a_change_of_the_stamp(tmp_path: Path) -> None:
    folder = write_tower(tmp_path, WIDTH)
    before = open_tower(folder).stamp
    assert open_tower(folder).stamp == before
    write_tower(folder, WIDTH, seed=1)
    assert open_tower(folder).stamp != before
