"""Eyes whose rows are words: scores in, the likeliest word's vector out, whatever path the kernels take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from hokku.kernels import ThreadPool, WeightFormat, available_isas
from hokku.kernels.program import F32
from hokku.kernels.reference import ReferenceProgram
from hokku.models.vision.codebook import Codebook
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
    assert codebook.words(-codebook.habits).tolist() == [0] * ROWS


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


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Codebook:
    """Rows 2 and 3 spell, row 1 has the word where row 0 says word 5; letters are words 10 and up."""
    folder = write_tower(tmp_path_factory.mktemp("eyes"), WIDTH, words=WORDS, line=LINE)
    _with_dictionary(folder, {}, np.array([[10, 11], [12, 0], [12, 13]]), np.array([WORDS, 7, WORDS + 1]))
    codebook = open_tower(folder).codebook()
    assert codebook is not None
    return codebook


def _with_dictionary(
    folder: Path, change: dict[str, int], spellings: NDArray[np.int64], vectors: NDArray[np.int64]
) -> None:
    tensors = load_file(folder / "model.safetensors")
    more = np.random.default_rng(1).standard_normal((2, WIDTH)).astype(np.float32)
    tensors["model.codebook.table"] = np.concatenate([tensors["model.codebook.table"], more])
    tensors["model.codebook.dictionary.spellings"] = spellings.astype(np.float32)
    tensors["model.codebook.dictionary.vectors"] = vectors.astype(np.float32)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["codebook"] |= {"vectors": WORDS + 2}
    config["codebook"]["dictionary"] = {
        "entries": 3, "letters": 2, "first_letter_row": 2, "word_row": 1, "where_row": 0, "says": 5, **change
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def read_as(codebook: Codebook, likely: Mapping[tuple[int, int], float]) -> list[int]:
    """What rows say whose scores are these, and 0 for all other words."""
    scores = -codebook.habits
    for at, score in likely.items():
        scores[at] += score
    said: list[int] = codebook.words(scores).tolist()
    return said


def test_letters_are_taken_for_the_likeliest_word(spelling: Codebook) -> None:
    says_word = {(0, 5): 9.0}
    # The letters as they were read are no word; of the words, the whole decides.
    read = {(2, 10): 3.0, (2, 12): 2.0, (3, 13): 4.0, (3, 11): 1.0}
    assert read_as(spelling, says_word | read) == [5, WORDS + 1, 12, 13]
    assert read_as(spelling, says_word | {(2, 12): 2.0, (3, 0): 1.0}) == [5, 7, 12, 0]
    # On a page that is of no word, rows say what they say.
    assert read_as(spelling, {(0, 4): 9.0, (1, 3): 1.0} | read) == [4, 3, 10, 13]


def test_a_word_of_the_dictionary_alone_lends_like_all_such(spelling: Codebook) -> None:
    words = np.array([5, WORDS + 1, 12, 13], np.int32)
    rows = spelling.rows(words)
    of_line = (spelling.lent[5] + spelling.lent[WORDS]) + spelling.lent_to_all[[5, WORDS, 12, 13]].sum(0)
    np.testing.assert_allclose(
        rows[1], spelling.table[WORDS + 1] + spelling.offsets[1] + of_line, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "spellings", "vectors"),
    [
        ({"letters": 3}, [[10, 11]] * 3, [1, 2, 3]),
        ({"first_letter_row": 3}, [[10, 11]] * 3, [1, 2, 3]),
        ({"says": WORDS}, [[10, 11]] * 3, [1, 2, 3]),
        ({"word_row": ROWS}, [[10, 11]] * 3, [1, 2, 3]),
        ({}, [[10, WORDS]] * 3, [1, 2, 3]),
        ({}, [[10, -1]] * 3, [1, 2, 3]),
        ({}, [[10, 11]] * 3, [1, 2, WORDS + 2]),
        ({"entries": 4}, [[10, 11]] * 3, [1, 2, 3]),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, int], spellings: list[list[int]], vectors: list[int]
) -> None:
    folder = write_tower(tmp_path, WIDTH, words=WORDS, line=LINE)
    _with_dictionary(folder, change, np.array(spellings), np.array(vectors))
    with pytest.raises(HokkuError):
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
