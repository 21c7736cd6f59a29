"""Qwen2.5-VL against transformers in float32: the tower with its windows, and the model with its rotary sections."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hokku.kernels import ThreadPool, WeightFormat, available_isas
from hokku.kernels.program import F32, I32
from hokku.kernels.reference import ReferenceProgram
from hokku.models.checkpoint import open_checkpoint
from hokku.models.packing import TextSide, load_model
from hokku.models.packing.plan import PackedFormat
from hokku.models.rope import mrope_positions
from hokku.models.vision import TileEncoder, Tower, open_tower
from hokku.models.vision.qwen2_5_vl import qwen2_5_vl_config, window_order
from hokku.models.weights import CheckpointWeights
from hokku.protocol.errors import BadModelFile
from hokku.protocol.pictures import Tile
from tests.models.house import GOLDENS, on_reference
from tests.models.native import on_native
from tests.models.vision import NUM_PROMPTS, Prompt, cosines, stored_prompts

FOLDER = GOLDENS / "qwen2_5_vl"
NUM_TILES = 4
EDGE = 16  # pixels that become one row
# The least cosine of a row that a format promises. The merger's GELU is the tanh form, and theirs the exact one.
PROMISED = {WeightFormat.INT8: 0.999, WeightFormat.BF16: 0.9999}
PROMISED_LOGITS: dict[PackedFormat, float] = {"int8": 0.999, "bf16": 0.9999}
NEARLY_EXACT = 0.99999


@cache
def stored() -> dict[str, NDArray[Any]]:
    with np.load(FOLDER / "golden.npz") as arrays:
        return dict(arrays)


@cache
def prompts() -> tuple[Prompt, ...]:
    return stored_prompts(stored())


@cache
def tower() -> Tower:
    return open_tower(FOLDER)


def tile(number: int) -> Tile:
    pixels = stored()[f"tile_{number}"]
    return Tile(pixels, tower().tiling.num_rows(*pixels.shape[:2]))


@cache
def reference_rows() -> list[F32]:
    config = tower().config
    program = ReferenceProgram(kv_heads=config.heads, head_dim=config.padded_head_dim)
    _, rows = tower().record(program, tower().floats())
    found = []
    for number in range(NUM_TILES):
        program.run(tower().step(tile(number).pixels))
        found.append(program.view(rows).copy())
    return found


@cache
def encoder(weight_format: WeightFormat, isa: str | None = None) -> TileEncoder:
    return TileEncoder(tower(), ThreadPool(2), weight_format, isa)


def places(prompt: Prompt) -> I32:
    """Rotary positions of a prompt."""
    pictures, begin = [], 0
    for number in prompt.tiles:
        height, width = (edge // EDGE for edge in tile(number).size)
        first = begin + int(np.argmax(prompt.tokens[begin:] == 319))
        pictures.append((first, height, width))
        begin = first + height * width
    return mrope_positions(len(prompt.tokens), pictures)


@pytest.mark.parametrize("number", range(NUM_TILES))
def test_rows_agree_with_transformers(number: int) -> None:
    assert cosines(reference_rows()[number], stored()[f"rows_{number}"]).min() >= NEARLY_EXACT


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("weight_format", PROMISED)
def test_the_native_encoder_agrees_on_every_path(weight_format: WeightFormat, isa: str) -> None:
    for number in range(NUM_TILES):
        ours = encoder(weight_format, isa).encode(tile(number))
        assert cosines(ours, stored()[f"rows_{number}"]).min() >= PROMISED[weight_format]
        if weight_format is WeightFormat.INT8:
            np.testing.assert_array_equal(ours, encoder(weight_format, "portable").encode(tile(number)))


@pytest.mark.parametrize("number", range(NUM_PROMPTS))
def test_logits_agree_with_transformers(number: int) -> None:
    prompt = prompts()[number]
    program, forward = on_reference(CheckpointWeights(open_checkpoint(FOLDER)))
    program.run(prompt.batch(reference_rows(), places(prompt)))
    assert cosines(program.view(forward.logits), prompt.logits).min() >= NEARLY_EXACT


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@pytest.mark.parametrize("mode", PROMISED_LOGITS)
@pytest.mark.parametrize("number", range(NUM_PROMPTS))
def test_native_logits_agree_with_transformers(mode: PackedFormat, number: int, cache_dir: Path) -> None:
    def random_tokens(_: object) -> TextSide:
        tokens = np.random.default_rng(11).integers(0, 300, 512)
        return TextSide(lambda text: tokens.tolist(), {})

    model = load_model(FOLDER, read_text_side=random_tokens, weights_format=mode, cache_dir=cache_dir)
    prompt = prompts()[number]
    weight_format = WeightFormat[mode.upper()]
    rows = [encoder(weight_format).encode(tile(each)) for each in range(NUM_TILES)]
    batch = prompt.batch(rows, places(prompt))
    program, forward = on_native(model, len(batch.tokens), len(batch.logit_index), batch.page_table.size)
    program.run(batch)
    assert cosines(program.view(forward.logits), prompt.logits).min() >= PROMISED_LOGITS[mode]


def test_text_alone_turns_by_its_positions() -> None:
    """Without rotary positions of its own a step has those of its tokens, to the bit."""
    prompt = prompts()[0]
    results = []
    for positions in (None, mrope_positions(len(prompt.tokens), [])):
        program, forward = on_reference(CheckpointWeights(open_checkpoint(FOLDER)))
        program.run(prompt.batch(reference_rows(), positions))
        results.append(program.view(forward.logits).copy())
    np.testing.assert_array_equal(results[0], results[1])


def test_a_pictures_rows_count_down_and_across() -> None:
    positions = mrope_positions(10, [(2, 2, 3)])
    assert positions[:2].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert positions[2:8].tolist() == [[2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4]]
    assert positions[8:].tolist() == [[5, 5, 5], [6, 6, 6]]


def test_windows_at_the_edges_are_smaller() -> None:
    order, lengths = window_order(3, 5, 4)
    assert lengths == [12, 3]
    assert order.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 4, 9, 14]


@pytest.mark.parametrize("shape", [(64, 60), (8, 64), (256, 128)])
def test_a_tile_of_a_size_that_is_not_taken_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="^tile: is of"):
        encoder(WeightFormat.INT8).encode(Tile(np.zeros((*shape, 3), np.uint8), 16))


def test_limits_by_the_processors_newer_names() -> None:
    values = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    processor = {"size": {"shortest_edge": 1_024, "longest_edge": 4_096}}
    config = qwen2_5_vl_config(values, processor, place="config.json", processor_place="processor")
    assert (config.tiling.min_pixels, config.tiling.max_pixels) == (1_024, 4_096)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_act", "gelu", "activation 'gelu'"),
        ("num_heads", 3, "in 3 heads"),
        ("window_size", 8, "windows of 8 pixels"),
        ("fullatt_block_indexes", [-1], "fullatt_block_indexes is"),
        ("depth", 0, "depth is '0'"),
    ],
)
def test_a_tower_that_does_not_fit_is_refused(key: str, value: object, message: str) -> None:
    values = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    values["vision_config"][key] = value
    with pytest.raises(BadModelFile, match=message):
        qwen2_5_vl_config(values, {}, place="config.json", processor_place="processor")


def test_the_tiling_is_read_from_the_processors_file() -> None:
    tiling = tower().tiling
    assert (tiling.kind, tiling.edge, tiling.min_pixels, tiling.max_pixels) == ("qwen2_5_vl", 16, 256, 16_384)
    assert tiling.resampling == "bicubic"
