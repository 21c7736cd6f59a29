"""Rotary position embedding: inverse frequencies under four scalings, and the tables of cosines and sines.

Sources: Su et al. 2021 (RoFormer) for the frequencies, Chen et al. 2023 for linear position interpolation,
Peng et al. 2023 (YaRN) for the ramp between dimensions, and the Llama 3.1 release for its piecewise scaling.
Angles are taken in float64 and rounded once, so position 100,000 is as exact as position 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32, I32, Rope
from hokku.models.config import ModelConfig, RopeScaling

F64 = NDArray[np.float64]


def inverse_frequencies(rotary_dim: int, theta: float, scaling: RopeScaling) -> F64:
    """Radians a position, one value a rotated pair [rotary_dim/2]."""
    plain = theta ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)
    match scaling.kind:
        case "default":
            return plain
        case "linear":
            return plain / scaling.factor
        case "llama3":
            return _llama3(plain, scaling)
        case "yarn":
            return _yarn(plain, rotary_dim, theta, scaling)


def rope_tables(config: ModelConfig, positions: int, divisors: F32 | None = None) -> Rope:
    """Tables for positions [0, positions). `divisors` [rotary_dim/2] is GGUF's `rope_freqs.weight`, the form
    in which that container carries Llama 3's scaling; YaRN's attention factor is multiplied into the
    tables."""
    scaling = config.rope_scaling
    frequencies = inverse_frequencies(config.rotary_dim, config.rope_theta, scaling)
    if divisors is not None:
        frequencies = frequencies / divisors
    angles = np.arange(positions, dtype=np.float64)[:, None] * frequencies
    return Rope(
        cos=(np.cos(angles) * scaling.attention_factor).astype(np.float32),
        sin=(np.sin(angles) * scaling.attention_factor).astype(np.float32),
        q_scale=1.0 / math.sqrt(config.head_dim),
        sections=config.rope_sections,
    )


def _llama3(plain: F64, scaling: RopeScaling) -> F64:
    """Short wavelengths stay, long ones are divided by the factor, those between are blended."""
    turns = scaling.original_context_tokens * plain / (2 * math.pi)  # in the original window
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    blended: F64 = plain * (kept + (1 - kept) / scaling.factor)
    return blended


def _yarn(plain: F64, rotary_dim: int, theta: float, scaling: RopeScaling) -> F64:
    """Dimensions that turn more than beta_fast times in the original window stay, those that turn less than
    beta_slow times are interpolated, with a linear ramp over the dimensions between."""

    def dimension(turns: float) -> float:
        wavelength_ratio = scaling.original_context_tokens / (turns * 2 * math.pi)
        return rotary_dim * math.log(wavelength_ratio) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    width = high - low if high != low else 0.001
    interpolated = np.clip((np.arange(rotary_dim // 2) - low) / width, 0.0, 1.0)
    blended: F64 = plain * (1 - interpolated + interpolated / scaling.factor)
    return blended


def mrope_positions(num_tokens: int, pictures: Sequence[tuple[int, int, int]]) -> I32:
    """Positions of a prompt's tokens in time, height and width [T][3] (Wang et al. 2024, "Qwen2-VL", section 2.1).

    Text counts on in all three; a picture stays at one time and is spread over the others; what comes after goes on
    behind the largest of its positions.

    Args:
        pictures: (first row in the prompt, height, width), in rows, in order of the prompt.
    """
    positions = np.empty((num_tokens, 3), np.int32)
    done, next_position = 0, 0
    for first, height, width in pictures:
        positions[done:first] = np.arange(next_position, next_position + first - done)[:, None]
        next_position += first - done
        done = first + height * width
        down, across = np.divmod(np.arange(height * width), width)
        positions[first:done] = next_position + np.stack([np.zeros_like(down), down, across], axis=1)
        next_position += max(height, width)
    positions[done:] = np.arange(next_position, next_position + num_tokens - done)[:, None]
    return positions
