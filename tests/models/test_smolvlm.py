"""SmolVLM against transformers in float32: the tower, the connector, and the whole model on prompts with pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hokku.kernels import ThreadPool, WeightFormat, available_isas
from hokku.kernels.program import F32
from hokku.kernels.reference import ReferenceProgram, layer_norm
from hokku.models.checkpoint import open_checkpoint
from hokku.models.packing import PackedModel, TextSide, load_model
from hokku.models.packing.plan import PackedFormat
from hokku.models.vision import TileEncoder, Tower, VisionConfig, has_tower, open_tower
from hokku.models.vision.idefics3 import patch_places, record, step
from hokku.models.weights import CheckpointWeights
from hokku.protocol.errors import BadModelFile
from hokku.protocol.pictures import Tile
from tests.models.house import GOLDENS, on_reference
from tests.models.native import on_native
from tests.models.vision import NUM_PROMPTS, VisionGolden, cosines, vision_golden

# The least cosine of a row that a format promises.
PROMISED = {WeightFormat.INT8: 0.999, WeightFormat.BF16: 0.9999}
PROMISED_LOGITS: dict[PackedFormat, float] = {"int8": 0.999, "bf16": 0.9999}
EXACT = 0.999999


@cache
def golden() -> VisionGolden:
    return vision_golden("smolvlm")


@cache
def tower() -> Tower:
    return open_tower(GOLDENS / "smolvlm")


def config() -> VisionConfig:
    assert isinstance(tower().config, VisionConfig)
    return tower().config  # type: ignore[return-value]


@cache
def reference_rows() -> tuple[F32, F32]:
    """(the last layer's output, rows) of every tile on the numpy program."""
    c, num_tiles = config(), len(golden().tiles)
    program = ReferenceProgram(kv_heads=c.heads, head_dim=c.padded_head_dim)
    hidden, rows = record(program, c, tower().floats())
    program.run(step(list(golden().tiles), c))
    return (
        program.view(hidden).reshape(num_tiles, -1, c.hidden),
        program.view(rows).reshape(num_tiles, -1, c.out),
    )


def encoded(weight_format: WeightFormat, isa: str | None = None, num_threads: int = 2) -> F32:
    encoder = TileEncoder(tower(), ThreadPool(num_threads), weight_format, isa)
    return np.stack([encoder.encode(Tile(tile, 16)) for tile in golden().tiles])


def test_hidden_states_agree_with_transformers() -> None:
    norm = tower().floats().final_norm
    hidden = reference_rows()[0][: len(golden().hidden)]
    ours = layer_norm(hidden, norm.gain, norm.bias, config().layer_norm_eps)
    in_order = np.argsort(patch_places(config()))
    assert cosines(ours[:, in_order], golden().hidden).min() >= EXACT


def test_rows_agree_with_transformers() -> None:
    assert cosines(reference_rows()[1], golden().rows).min() >= EXACT


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("weight_format", PROMISED)
def test_the_native_encoder_agrees_on_every_path(weight_format: WeightFormat, isa: str) -> None:
    ours = encoded(weight_format, isa)
    assert cosines(ours, golden().rows).min() >= PROMISED[weight_format]
    if weight_format is WeightFormat.INT8:
        np.testing.assert_array_equal(ours, encoded(weight_format, "portable"))


@pytest.mark.parametrize("weight_format", PROMISED)
def test_a_tiles_rows_depend_on_nothing_else(weight_format: WeightFormat) -> None:
    np.testing.assert_array_equal(
        encoded(weight_format, num_threads=1), encoded(weight_format, num_threads=3)
    )
    encoder = TileEncoder(tower(), ThreadPool(2), weight_format)
    backwards = [encoder.encode(Tile(tile, 16)) for tile in golden().tiles[::-1]]
    np.testing.assert_array_equal(np.stack(backwards[::-1]), encoded(weight_format))


def test_a_tile_of_another_size_is_refused() -> None:
    encoder = TileEncoder(tower(), ThreadPool(1))
    with pytest.raises(ValueError, match="^tile: is of 64 by 32 pixels, not 64 by 64"):
        encoder.encode(Tile(np.zeros((64, 32, 3), np.uint8), 16))


@pytest.mark.parametrize("number", range(NUM_PROMPTS))
def test_logits_agree_with_transformers(number: int) -> None:
    prompt = golden().prompts[number]
    program, forward = on_reference(CheckpointWeights(open_checkpoint(golden().path)))
    program.run(prompt.batch(list(reference_rows()[1])))
    assert cosines(program.view(forward.logits), prompt.logits).min() >= EXACT


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


def packed(mode: PackedFormat, cache_dir: Path) -> PackedModel:
    def random_tokens(_: object) -> TextSide:
        tokens = np.random.default_rng(11).integers(0, 319, 512)
        return TextSide(lambda text: tokens.tolist(), {})

    return load_model(
        GOLDENS / "smolvlm", read_text_side=random_tokens, weights_format=mode, cache_dir=cache_dir
    )


@pytest.mark.parametrize("mode", PROMISED_LOGITS)
@pytest.mark.parametrize("number", range(NUM_PROMPTS))
def test_native_logits_agree_with_transformers(mode: PackedFormat, number: int, cache_dir: Path) -> None:
    prompt = golden().prompts[number]
    batch = prompt.batch(list(encoded(WeightFormat[mode.upper()])))
    program, forward = on_native(
        packed(mode, cache_dir), len(batch.tokens), len(batch.logit_index), batch.page_table.size
    )
    program.run(batch)
    assert cosines(program.view(forward.logits), prompt.logits).min() >= PROMISED_LOGITS[mode]


def test_the_tiling_is_read_from_the_processors_file() -> None:
    tiling = tower().tiling
    assert (tiling.kind, tiling.edge, tiling.longest_edge, tiling.rows_a_tile) == ("idefics3", 64, 128, 16)
    assert tiling.resampling == "lanczos"


def changed(tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the golden folder with one of its JSON files changed."""
    folder = tmp_path / "changed"
    shutil.copytree(GOLDENS / "smolvlm", folder)
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    change(values)
    (folder / file).write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_a_picture_that_is_not_split_is_one_tile(tmp_path: Path) -> None:
    folder = changed(tmp_path, "preprocessor_config.json", lambda v: v.update(do_image_splitting=False))
    assert open_tower(folder).tiling.kind == "single"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "flamingo"}, "a vision tower of 'flamingo'"),
        ("config.json", {"scale_factor": 3}, "joined by 3"),
        ("config.json", {"text_config": {"hidden_size": 80}}, "connector.* has the shape"),
        ("preprocessor_config.json", {"resample": 0}, "resampling 0"),
        ("preprocessor_config.json", {"image_std": [0.5, 0, 0.5]}, "image_std is '0'"),
        ("preprocessor_config.json", {"image_mean": 0.5}, "image_mean is '0.5'"),
        ("preprocessor_config.json", {"max_image_size": {"longest_edge": 32}}, "tiles of 32 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(
    file: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = changed(tmp_path, file, lambda values: values.update(change))
    with pytest.raises(BadModelFile, match=message):
        open_tower(folder).packed(WeightFormat.INT8)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_act", "gelu", "activation 'gelu' of a vision tower"),
        ("num_attention_heads", 7, "in 7 heads"),
        ("image_size", 60, "tiles of 64 pixels for a tower of 60"),
        ("patch_size", 9, "in patches of 9"),
        ("num_channels", 1, "three channels"),
        ("num_hidden_layers", 3, "encoder.layers.2.* is missing"),
        ("hidden_size", "wide", "hidden_size is 'wide'"),
    ],
)
def test_a_tower_that_does_not_fit_is_refused(key: str, value: object, message: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, "config.json", lambda values: values["vision_config"].update({key: value}))
    with pytest.raises(BadModelFile, match=message):
        open_tower(folder).packed(WeightFormat.INT8)


def test_who_can_see() -> None:
    assert has_tower(GOLDENS / "smolvlm")
    assert not has_tower(GOLDENS / "llama")
    assert not has_tower(GOLDENS / "perplexity.json")
