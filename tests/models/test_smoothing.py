"""Smoothing moves numbers about without changing what the model computes."""

from __future__ import annotations

import numpy as np
import pytest

from hokku.kernels.program import F32, I32
from hokku.models.packing.calibration import (
    NUM_WINDOWS,
    WINDOW_TOKENS,
    calibration_text,
    column_spreads,
    windows_batch,
)
from hokku.models.packing.smoothing import SmoothedWeights, column_scale
from hokku.models.weights import CheckpointWeights, WeightSource
from tests.models.house import TINY, Golden, golden, reference_logits


def spreads_of(source: WeightSource, tokens: I32) -> dict[str, F32]:
    return column_spreads(source, tokens.tolist())


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> Golden:
    return golden(request.param)


def test_a_smoothed_model_gives_the_same_logits(tiny: Golden) -> None:
    plain = CheckpointWeights(tiny.checkpoint)
    smoothed = SmoothedWeights(plain, spreads_of(plain, tiny.tokens))
    assert not np.allclose(smoothed.matrix("layers.0.qkv"), plain.matrix("layers.0.qkv"), rtol=0.1)
    np.testing.assert_allclose(
        reference_logits(smoothed, tiny.tokens, tiny.row_start), tiny.logits, atol=5e-4
    )


def test_smoothed_inputs_are_more_even() -> None:
    """The widest column of each input, against the median one, comes down."""
    tiny = golden("qwen2")
    plain = CheckpointWeights(tiny.checkpoint)
    before = spreads_of(plain, tiny.tokens)
    after = spreads_of(SmoothedWeights(plain, before), tiny.tokens)
    for name in before:
        assert after[name].max() / np.median(after[name]) < before[name].max() / np.median(before[name]), name


def test_spreads_cover_every_linear(tiny: Golden) -> None:
    spreads = spreads_of(CheckpointWeights(tiny.checkpoint), tiny.tokens)
    layers = {f"layers.{n}.{role}" for n in range(2) for role in ("qkv", "output", "gate_up", "down")}
    assert set(spreads) == layers | {"head"}


def test_matrices_that_were_not_measured_stay() -> None:
    tiny = golden("llama")
    plain = CheckpointWeights(tiny.checkpoint)
    spreads = spreads_of(plain, tiny.tokens)
    down_only = SmoothedWeights(plain, {"layers.0.down": spreads["layers.0.down"]})
    assert np.array_equal(down_only.matrix("layers.0.qkv"), plain.matrix("layers.0.qkv"))
    assert np.array_equal(down_only.matrix("layers.1.down"), plain.matrix("layers.1.down"))
    assert not np.array_equal(down_only.matrix("layers.0.gate_up"), plain.matrix("layers.0.gate_up"))


def test_columns_that_never_carry_anything_are_left_alone() -> None:
    spreads = np.array([4.0, 0.0, 4.0], np.float32)
    weights = np.array([1.0, 1.0, 0.0], np.float32)
    assert column_scale(spreads, weights).tolist() == [2.0, 1.0, 1.0]


def test_calibration_spreads_its_windows_over_a_text() -> None:
    count = 10 * WINDOW_TOKENS
    batch = windows_batch(np.arange(count, dtype=np.int32))
    starts = batch.tokens[batch.row_start[:-1]]
    assert len(starts) == NUM_WINDOWS
    assert (starts[0], starts[-1]) == (0, count - WINDOW_TOKENS)
    assert np.array_equal(batch.positions, np.tile(np.arange(WINDOW_TOKENS), NUM_WINDOWS))


def test_calibration_makes_do_with_a_few_tokens() -> None:
    batch = windows_batch(np.arange(10, dtype=np.int32))
    assert (batch.tokens.tolist(), batch.row_start.tolist()) == (list(range(10)), [0, 10])


def test_the_calibration_text_is_mixed() -> None:
    text = calibration_text()
    assert 10_000 < len(text.encode()) < 12_500
    for mark in ("def ", "SELECT", "| --- |", "- [ ]", "<|im_start|>", "Der Zug", "会议"):
        assert mark in text
