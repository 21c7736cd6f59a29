"""Eight bits a weight in groups of 32, as two int4 matrices whose products add up.

An eight-bit code is 16 times its high nibble plus its low one, so W = (16·d)·high + minimum + d·low: both
terms are int4 matrices of the kernels. This keeps group-wise scales, on the weights and on the activations
that meet them, for the one matrix that would lose most by a single scale a row: the head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32
from hokku.kernels.weights import PackedWeight, pack_int4_codes

_GROUP = 32
_LEVELS = 255
_NIBBLE = np.uint8(16)
# Rows worked on at a time: a vocabulary's table would take several times its size in memory otherwise.
_BLOCK_ROWS = 8_192
_SMALLEST_STEP = np.float16(6e-8)  # the smallest float16 above zero


def pack_planes(weights: F32) -> tuple[PackedWeight, PackedWeight]:
    """The high and the low plane of a matrix [N][K], K a multiple of 32."""
    blocks = [weights[begin : begin + _BLOCK_ROWS] for begin in range(0, len(weights), _BLOCK_ROWS)]
    parts = [_eight_bits(block) for block in blocks]
    codes, step, minimum = (np.concatenate([part[index] for part in parts]) for index in range(3))
    high = pack_int4_codes(codes // _NIBBLE, step * np.float32(_NIBBLE), minimum)
    return high, pack_int4_codes(codes % _NIBBLE, step, np.zeros(step.shape, np.float32))


def _eight_bits(rows: F32) -> tuple[NDArray[np.uint8], F32, F32]:
    """Codes [N][K], step and minimum [N][K/32], the latter two exact in float16, as is 16 times a step."""
    groups = rows.reshape(len(rows), -1, _GROUP)
    minimum = _half(groups.min(axis=2))
    step = np.maximum(_half((groups.max(axis=2) - minimum) / _LEVELS), np.float32(_SMALLEST_STEP))
    codes = np.clip(np.rint((groups - minimum[..., None]) / step[..., None]), 0, _LEVELS).astype(np.uint8)
    return codes.reshape(rows.shape), step, minimum


def _half(values: F32) -> F32:
    return values.astype(np.float16).astype(np.float32)
