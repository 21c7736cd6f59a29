"""Native int8, int4 and bf16 against transformers in float32, on every path this machine runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hokku.kernels import KvFormat, available_isas
from hokku.kernels.program import F32
from hokku.models.packing import PackedModel, TextSide, load_model
from hokku.models.packing.plan import PackedFormat
from tests.models.house import GOLDENS, TINY, Golden, golden
from tests.models.native import native_logits


@dataclass(frozen=True)
class Agreement:
    """The least that a format promises."""

    top_1: float  # share of rows with the same likeliest token
    cosine: float  # of each row's logits


PROMISED: dict[PackedFormat, Agreement] = {
    "int8": Agreement(0.99, 0.999),
    "bf16": Agreement(0.99, 0.9999),
    # Random weights have none of the slack of trained ones: four bits move a logit by a tenth of its spread.
    "int4": Agreement(0.93, 0.96),
}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@cache
def tiny(name: str) -> Golden:
    return golden(name)


def packed(name: str, mode: PackedFormat, cache_dir: Path) -> PackedModel:
    def random_tokens(_: object) -> TextSide:
        tokens = np.random.default_rng(11).integers(0, 320, 512)
        return TextSide(lambda text: tokens.tolist(), {})

    return load_model(GOLDENS / name, read_text_side=random_tokens, weights_format=mode, cache_dir=cache_dir)


def cosines(ours: F32, theirs: F32) -> F32:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosine: F32 = (ours * theirs).sum(axis=1) / lengths
    return cosine


@pytest.mark.parametrize("mode", PROMISED)
@pytest.mark.parametrize("name", TINY)
def test_logits_agree_with_transformers(name: str, mode: PackedFormat, cache_dir: Path) -> None:
    ours = native_logits(packed(name, mode, cache_dir), tiny(name).tokens, tiny(name).row_start)
    same = np.mean(ours.argmax(axis=1) == tiny(name).logits.argmax(axis=1))
    least = cosines(ours, tiny(name).logits).min()
    assert same >= PROMISED[mode].top_1
    assert least >= PROMISED[mode].cosine


@pytest.mark.parametrize("mode", PROMISED)
def test_integer_weights_keep_integer_keys_and_values(mode: PackedFormat, cache_dir: Path) -> None:
    wanted = KvFormat.BF16 if mode == "bf16" else KvFormat.INT8
    assert packed("llama", mode, cache_dir).kv_format is wanted


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_integer_formats_give_the_same_bits_on_every_path(
    mode: PackedFormat, isa: str, cache_dir: Path
) -> None:
    model = packed("qwen3", mode, cache_dir)
    tokens, row_start = tiny("qwen3").tokens, tiny("qwen3").row_start
    assert np.array_equal(
        native_logits(model, tokens, row_start, isa), native_logits(model, tokens, row_start, "portable")
    )


@pytest.mark.parametrize("isa", available_isas())
def test_bf16_agrees_on_every_path(isa: str, cache_dir: Path) -> None:
    ours = native_logits(
        packed("llama", "bf16", cache_dir), tiny("llama").tokens, tiny("llama").row_start, isa
    )
    assert cosines(ours, tiny("llama").logits).min() >= PROMISED["bf16"].cosine
