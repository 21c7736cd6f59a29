"""Rotary tables against closed forms worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hokku.models.config import RopeScaling, yarn_attention_factor
from hokku.models.rope import inverse_frequencies, rope_tables
from tests.models.house import golden

THETA = 10_000.0
DIM = 64


@pytest.fixture
def plain() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([THETA ** (-2 * pair / DIM) for pair in range(DIM // 2)])


def test_default_is_a_geometric_series(plain: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    np.testing.assert_allclose(inverse_frequencies(DIM, THETA, RopeScaling()), plain, rtol=1e-12)


def test_linear_divides_every_frequency(plain: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    scaled = inverse_frequencies(DIM, THETA, RopeScaling("linear", 8.0))
    np.testing.assert_allclose(scaled, plain / 8, rtol=1e-12)


def test_llama3_keeps_short_waves_and_divides_long_ones() -> None:
    scaling = RopeScaling("llama3", 8.0, 8_192, low_frequency_factor=1.0, high_frequency_factor=4.0)
    plain = inverse_frequencies(128, 500_000.0, RopeScaling())
    scaled = inverse_frequencies(128, 500_000.0, scaling)
    for was, now in zip(plain, scaled, strict=True):
        wavelength = 2 * math.pi / was
        if wavelength < 8_192 / 4:
            assert now == pytest.approx(was, rel=1e-12)
        elif wavelength > 8_192:
            assert now == pytest.approx(was / 8, rel=1e-12)
        else:
            share = (8_192 / wavelength - 1) / 3
            assert now == pytest.approx((1 - share) * was / 8 + share * was, rel=1e-12)


def test_yarn_ramps_between_the_two_betas() -> None:
    scaling = RopeScaling("yarn", 4.0, 32_768)
    plain = inverse_frequencies(128, 1_000_000.0, RopeScaling())
    kept = inverse_frequencies(128, 1_000_000.0, scaling) / plain
    # Worked out once: beta 32 falls into dimension 23.6, beta 1 into 39.6.
    np.testing.assert_allclose(kept[:24], 1.0)
    np.testing.assert_allclose(kept[40:], 0.25)
    np.testing.assert_allclose(np.diff(kept[23:41]), -0.75 / 17, rtol=1e-9)
    assert yarn_attention_factor(4.0) == pytest.approx(1.1386, abs=1e-4)


def test_tables_hold_angle_and_attention_factor() -> None:
    config = golden("qwen2").config  # YaRN
    rope = rope_tables(config, 200)
    factor = config.rope_scaling.attention_factor
    frequency = inverse_frequencies(config.rotary_dim, config.rope_theta, config.rope_scaling)[3]
    assert rope.cos.shape == rope.sin.shape == (200, config.rotary_dim // 2)
    assert rope.cos.dtype == rope.sin.dtype == np.float32
    assert rope.cos[137, 3] == pytest.approx(factor * math.cos(137 * frequency), abs=1e-6)
    assert rope.sin[137, 3] == pytest.approx(factor * math.sin(137 * frequency), abs=1e-6)
    assert rope.q_scale == pytest.approx(config.head_dim**-0.5)


def test_gguf_divisors_are_the_same_scaling() -> None:
    """GGUF carries Llama 3's scaling as one divisor a pair."""
    config = golden("llama").config
    plain_config = replace(config, rope_scaling=RopeScaling())
    divisors = inverse_frequencies(config.rotary_dim, config.rope_theta, RopeScaling()) / inverse_frequencies(
        config.rotary_dim, config.rope_theta, config.rope_scaling
    )
    by_divisors = rope_tables(plain_config, 100, divisors.astype(np.float32))
    np.testing.assert_allclose(by_divisors.cos, rope_tables(config, 100).cos, atol=1e-5)
