"""Smoothing moves numbers about without changing what the model computes."""

from __future__ import annotations

import numpy as np
import pytest

from hokku.models.packing.calibration import WINDOW_TOKENS, calibration_text, column_maxima, windows_batch
from hokku.models.packing.smoothing import SmoothedWeights, column_scale
from hokku.models.weights import CheckpointWeights
from tests.models.house import TINY, Golden, golden, reference_logits


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest) -> Golden:
    return golden(request.param)


def test_a_smoothed_model_gives_the_same_logits(tiny: Golden) -> None:
    plain = CheckpointWeights(tiny.checkpoint)
    maxima = column_maxima(plain, tiny.tokens.tolist())
    smoothed = SmoothedWeights(plain, maxima)
    assert not np.allclose(smoothed.matrix("layers.0.qkv"), plain.matrix("layers.0.qkv"), rtol=0.1)
    np.testing.assert_allclose(
        reference_logits(smoothed, tiny.tokens, tiny.row_start), tiny.logits, atol=5e-4
    )


def test_smoothed_inputs_are_more_even() -> None:
    """The widest column of each input, against the median one, comes down."""
    tiny = golden("qwen2")
    plain = CheckpointWeights(tiny.checkpoint)
    before = column_maxima(plain, tiny.tokens.tolist())
    after = column_maxima(SmoothedWeights(plain, before), tiny.tokens.tolist())
    for name in before:
        assert after[name].max() / np.median(after[name]) < before[name].max() / np.median(before[name]), name


def test_maxima_cover_every_linear(tiny: Golden) -> None:
    maxima = column_maxima(CheckpointWeights(tiny.checkpoint), tiny.tokens.tolist())
    layers = {f"layers.{n}.{role}" for n in range(2) for role in ("qkv", "output", "gate_up", "down")}
    head = "embedding" if tiny.config.tied_embeddings else "head"
    assert set(maxima) == layers | {head}


def test_matrices_that_were_not_measured_stay() -> None:
    tiny = golden("llama")
    plain = CheckpointWeights(tiny.checkpoint)
    maxima = column_maxima(plain, tiny.tokens.tolist())
    head_only = SmoothedWeights(plain, {"embedding": maxima["embedding"]})
    assert np.array_equal(head_only.matrix("layers.0.qkv"), plain.matrix("layers.0.qkv"))
    scale = head_only.vector("embedding_scale")
    assert scale is not None
    np.testing.assert_allclose(head_only.matrix("embedding") * scale, plain.matrix("embedding"), rtol=1e-6)


def test_columns_that_never_carry_anything_are_left_alone() -> None:
    maxima = np.array([4.0, 0.0, 4.0], np.float32)
    weights = np.array([1.0, 1.0, 0.0], np.float32)
    assert column_scale(maxima, weights, 0.5).tolist() == [2.0, 1.0, 1.0]


def test_calibration_cuts_a_text_into_windows() -> None:
    batch = windows_batch(np.arange(WINDOW_TOKENS + 10, dtype=np.int32))
    assert batch.row_start.tolist() == [0, WINDOW_TOKENS, WINDOW_TOKENS + 10]
    assert batch.positions[WINDOW_TOKENS:].tolist() == list(range(10))


def test_the_calibration_text_is_mixed() -> None:
    text = calibration_text()
    assert 10_000 < len(text.encode()) < 12_500
    for mark in ("def ", "SELECT", "| --- |", "- [ ]", "<|im_start|>", "Der Zug", "会议"):
        assert mark in text
