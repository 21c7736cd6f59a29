"""The linears by the book: the formulas of `csrc/kernels.h` in plain numpy, bit for bit in the integer formats.

Codes are read out of the packed layout by reshaping it as documented, and activations are encoded by the encoder's
own two lines, so that what a kernel adds to these is nothing but its sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hokku.kernels import PackedWeight, WeightFormat
from hokku.kernels.program import F32
from tests.kernels.steps import bf16

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

GROUP = 32


@dataclass(frozen=True)
class Result:
    """What a linear should give [M][N], and how far from it a kernel may stray."""

    value: F32
    tolerance: F64 | float


def fma(a: F32, b: F32, c: F32) -> F32:
    """a·b + c rounded once to float32.

    The product is exact in float64. Its sum with c is rounded to odd there (Boldo & Melquiond 2008), so that the
    second rounding, to float32, cannot be misled by the first.
    """
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = np.broadcast_to(c, product.shape).astype(np.float64)
    total = product + addend
    kept = total - product
    error = (product - (total - kept)) + (addend - kept)
    even = (total.view(np.int64) & 1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, toward), total)
    return odd.astype(np.float32)


def int8_codes(w: PackedWeight) -> I64:
    """Signed codes [N][KP] of an int8 weight."""
    blocks, depth = -(-w.rows // 16), -(-w.cols // 64) * 64
    tiles = w.codes.reshape(blocks, depth // 4, 16, 4)
    return tiles.transpose(0, 2, 1, 3).reshape(blocks * 16, depth)[: w.rows].astype(np.int64) - 128


def int4_codes(w: PackedWeight) -> I64:
    """Nibbles [N][KP/32][32] of an int4 weight."""
    blocks, groups = -(-w.rows // 16), -(-w.cols // 64) * 2
    tiles = w.codes.reshape(blocks, groups, 4, 16, 4)
    halves = [
        half.transpose(0, 3, 1, 2, 4).reshape(blocks * 16, groups, 16) for half in (tiles & 15, tiles >> 4)
    ]
    return np.concatenate(halves, axis=2)[: w.rows].astype(np.int64)


def group_factors(w: PackedWeight) -> tuple[F32, F32]:
    """Scale and minimum [N][KP/32] of an int4 weight."""
    assert w.gscale is not None
    assert w.gmin is not None
    blocks, groups = -(-w.rows // 16), -(-w.cols // 64) * 2

    def by_output(halves: NDArray[np.uint16]) -> F32:
        factors = halves.view(np.float16).astype(np.float32).reshape(blocks, groups, 16)
        return np.ascontiguousarray(factors.transpose(0, 2, 1).reshape(blocks * 16, groups)[: w.rows])

    return by_output(w.gscale), by_output(w.gmin)


def encode(x: F32, run: int) -> tuple[I64, F32]:
    """Codes [M][runs][run] and scales [M][runs] of activations, one scale a run of columns; padding is zero."""
    runs = -(-x.shape[1] // run)
    padded = np.zeros((x.shape[0], runs * run), np.float32)
    padded[:, : x.shape[1]] = x
    values = padded.reshape(-1, runs, run)
    amax = np.abs(values).max(axis=2)
    with np.errstate(divide="ignore"):
        inverse = np.where(amax == 0, np.float32(0), np.float32(127) / amax)
    codes = np.rint(np.clip(values * inverse[:, :, None], -127, 127))
    return codes.astype(np.int64), (amax / np.float32(127)).astype(np.float32)


def linear(x: F32, w: PackedWeight) -> Result:
    """x [M][K] times the weight [N][K], transposed."""
    if w.format is WeightFormat.INT8:
        return Result(_linear_int8(x, w), 0.0)
    if w.format is WeightFormat.INT4:
        return Result(_linear_int4(x, w), 0.0)
    return _linear_bf16(x, w)


def _linear_int8(x: F32, w: PackedWeight) -> F32:
    assert w.scale is not None
    weights = np.split(int8_codes(w), w.segments, axis=1)
    weight_scale = w.scale.reshape(-1, w.segments, 16).transpose(1, 0, 2).reshape(w.segments, -1)[:, : w.rows]
    codes, scale = encode(x, weights[0].shape[1])
    y = np.zeros((x.shape[0], w.rows), np.float32)
    for s, segment in enumerate(weights):
        dots = (codes[:, s] @ segment.T).astype(np.float32)
        y = fma(dots * scale[:, s, None], weight_scale[s], y)
    return y


def _linear_int4(x: F32, w: PackedWeight) -> F32:
    weights = int4_codes(w)
    gscale, gmin = group_factors(w)
    codes, scale = encode(np.pad(x, ((0, 0), (0, weights.shape[1] * GROUP - x.shape[1]))), GROUP)
    y = np.zeros((x.shape[0], w.rows), np.float32)
    for g in range(weights.shape[1]):
        dots = (codes[:, g] @ weights[:, g].T).astype(np.float32)
        sums = codes[:, g].sum(axis=1, keepdims=True).astype(np.float32)
        product = fma(dots, np.broadcast_to(gscale[:, g], dots.shape), sums * gmin[:, g])
        y = fma(np.broadcast_to(scale[:, g, None], y.shape), product, y)
    return y


def _linear_bf16(x: F32, w: PackedWeight) -> Result:
    """Products of two bf16 are exact; K additions in any order err by at most K half-ulps of the sum of magnitudes.

    Where tiles flush denormal numbers, each of K steps may lose one more smallest normal number.
    """
    a, b = bf16(x).astype(np.float64), w.unpack().astype(np.float64)
    magnitude = np.abs(a) @ np.abs(b).T
    tolerance = (w.cols + 2) * (2.0**-24 * magnitude + 2.0**-126)
    return Result((a @ b.T).astype(np.float32), tolerance)


def silu(x: F32) -> F64:
    """x / (1 + e^-x), in float64."""
    exact = x.astype(np.float64)
    with np.errstate(over="ignore"):
        result: F64 = exact / (1 + np.exp(-exact))
    return result
