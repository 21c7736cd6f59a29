"""Weight matrices W[N][K] in the layouts that the kernels read; `csrc/kernels.h` draws them byte by byte.

N is the number of outputs, K of inputs. A layout pads N to blocks of 16 and K to a multiple of 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hokku.kernels import _native
from hokku.kernels.checks import checked, checked_or_none
from hokku.kernels.program import F32, WeightFormat

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

_ALIGNMENT = 64  # bytes: one cache line, one AVX-512 register
_BLOCK = 16
DEPTH_PAD = 64
_GROUP = 32


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """A matrix [rows][cols] as flat arrays, each beginning at a multiple of 64 bytes (a file's mapping will do).

    Raises ValueError, on first use by a program, when an array is missing or has the wrong size.
    """

    format: WeightFormat
    rows: int
    cols: int
    codes: U8
    scale: F32 | None = None  # INT8: one an output and segment
    gscale: U16 | None = None  # INT4: float16 bits, one a group of 32 inputs and output
    gmin: U16 | None = None
    # INT8: equal runs of inputs, multiples of 64 long, whose activations and weights have scales of their own
    segments: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes a pass over the matrix reads."""
        arrays = (self.codes, self.scale, self.gscale, self.gmin)
        return sum(array.nbytes for array in arrays if array is not None)

    @cached_property
    def native(self) -> _native.Weight:
        """What C++ takes; keeps the arrays alive."""
        return _native.Weight(
            int(self.format),
            self.rows,
            self.cols,
            self.segments,
            checked("codes", self.codes, np.uint8, 1),
            checked_or_none("scale", self.scale, np.float32, 1),
            checked_or_none("gscale", self.gscale, np.uint16, 1),
            checked_or_none("gmin", self.gmin, np.uint16, 1),
        )

    def unpack(self) -> F32:
        """The float32 matrix [rows][cols] that the codes stand for."""
        out = np.empty((self.rows, self.cols), np.float32)
        _native.unpack(self.native, out)
        return out


def pack_int8(weights: F32, segments: int = 1) -> PackedWeight:
    """Symmetric int8, one scale an output and segment: W[n] ≈ scale[n][s] · codes in -127..127.

    Args:
        weights: [N][K], contiguous.
        segments: how many runs of inputs have scales of their own, in activations too; K padded to a multiple of 64
            must fall into so many runs of a multiple of 64 inputs.
    """
    rows, cols = _shape("weights", weights, np.float32)
    codes = aligned_empty(_padded_rows(rows) * _padded_cols(cols), np.uint8)
    scale = aligned_empty(max(segments, 1) * _padded_rows(rows), np.float32)
    _native.pack_int8(weights, segments, codes, scale)
    return PackedWeight(WeightFormat.INT8, rows, cols, codes, scale=scale, segments=segments)


def pack_int4(weights: F32, *, refine: bool = True) -> PackedWeight:
    """Asymmetric int4 in groups of 32 inputs: W ≈ gscale · nibble + gmin.

    Args:
        weights: [N][K], contiguous.
        refine: fit scale and minimum to the codes by least squares where that lowers the squared error.
    """
    rows, cols = _shape("weights", weights, np.float32)
    codes, gscale, gmin = _int4_arrays(rows, cols)
    _native.pack_int4(weights, refine, codes, gscale, gmin)
    return PackedWeight(WeightFormat.INT4, rows, cols, codes, gscale=gscale, gmin=gmin)


def pack_int4_codes(nibbles: U8, scale: F32, minimum: F32) -> PackedWeight:
    """The int4 layout from a quantisation that already exists, codes kept as they are.

    Args:
        nibbles: [N][K], each in 0..15, K a multiple of 32.
        scale: [N][K/32], rounded to float16.
        minimum: likewise.
    """
    rows, cols = _shape("nibbles", nibbles, np.uint8)
    codes, gscale, gmin = _int4_arrays(rows, cols)
    checked("scale", scale, np.float32, 2)
    checked("minimum", minimum, np.float32, 2)
    _native.pack_int4_codes(nibbles, scale, minimum, codes, gscale, gmin)
    return PackedWeight(WeightFormat.INT4, rows, cols, codes, gscale=gscale, gmin=gmin)


def pack_bf16(weights: F32) -> PackedWeight:
    """Each weight rounded to the nearest bfloat16, ties to even.

    Args:
        weights: [N][K], contiguous.
    """
    rows, cols = _shape("weights", weights, np.float32)
    codes = aligned_empty(_padded_rows(rows) * _padded_cols(cols) * 2, np.uint8)
    _native.pack_bf16(weights, codes)
    return PackedWeight(WeightFormat.BF16, rows, cols, codes)


def aligned_empty(count: int, dtype: Any) -> NDArray[Any]:
    """An uninitialised array [count] that begins at a multiple of 64 bytes."""
    nbytes = count * np.dtype(dtype).itemsize
    raw = np.empty(nbytes + _ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % _ALIGNMENT
    return raw[offset : offset + nbytes].view(dtype)


def _shape(name: str, array: NDArray[Any], dtype: Any) -> tuple[int, int]:
    rows, cols = checked(name, array, dtype, 2).shape
    if rows == 0 or cols == 0:
        raise ValueError(f"{name}: has no elements")
    return rows, cols


def _padded_rows(rows: int) -> int:
    return -(-rows // _BLOCK) * _BLOCK


def _padded_cols(cols: int) -> int:
    return -(-cols // DEPTH_PAD) * DEPTH_PAD


def _int4_arrays(rows: int, cols: int) -> tuple[U8, U16, U16]:
    elements = _padded_rows(rows) * _padded_cols(cols)
    groups = elements // _GROUP
    return (
        aligned_empty(elements // 2, np.uint8),
        aligned_empty(groups, np.uint16),
        aligned_empty(groups, np.uint16),
    )
