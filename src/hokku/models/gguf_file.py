"""Reads GGUF files, trusting nothing: every count, size and offset is checked against the file before it is
used.

The container is walked here rather than by the `gguf` package, whose reader believes the counts it finds and
takes seconds over a tokenizer's vocabulary; the numbers themselves (type sizes, dequantisation) are that
package's. Layout: the GGUF specification, versions 2 and 3, little-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as TensorType
from numpy.typing import NDArray

from hokku.kernels.program import F32
from hokku.models.bytes_cursor import ByteCursor, map_file
from hokku.models.checkpoint import Codes, finite
from hokku.models.config import ModelConfig, config_from_gguf, unsupported
from hokku.protocol.errors import BadModelFile

_MAGIC = b"GGUF"
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_SCALARS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_STRING, _ARRAY = 8, 9
READABLE = (
    TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_1,
    TensorType.Q5_0, TensorType.Q5_1, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and how it is stored."""

    shape: tuple[int, ...]  # outputs first, the reverse of the file's order
    type: TensorType
    begin: int  # byte offset in the file
    size_bytes: int


class GgufFile:
    """A `Checkpoint` in one GGUF file."""

    container = "gguf"
    tokenizer_source = None

    def __init__(self, path: Path) -> None:
        """Map the file and read everything but the weights. Raises `BadModelFile`."""
        self.path = path
        self._bytes = map_file(path)
        cursor = ByteCursor(self._bytes, path)
        if cursor.take(4) != _MAGIC:
            raise BadModelFile("not a GGUF file", place=str(path))
        if (version := cursor.integer("<u4")) not in (2, 3):
            raise unsupported(f"GGUF version {version}", str(path))
        num_tensors, num_keys = cursor.integer("<u8"), cursor.integer("<u8")
        self.metadata = _read_metadata(cursor, num_keys)
        if self.metadata.get("split.count", 1) not in (0, 1):
            raise unsupported("a model split over several GGUF files", str(path))
        self._tensors = _read_tensor_infos(cursor, num_tensors, self._alignment())

    @cached_property
    def config(self) -> ModelConfig:
        """The model's shape, checked."""
        vocabulary = self.shape("token_embd.weight")[0]
        tied = "output.weight" not in self._tensors
        return config_from_gguf(self.metadata, vocabulary, tied=tied, place=str(self.path))

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._tensors.keys()

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over stored elements, matrices only."""
        matrices = [info for info in self._tensors.values() if len(info.shape) > 1]
        elements = sum(prod(info.shape) for info in matrices)
        return 8 * sum(info.size_bytes for info in matrices) / max(1, elements)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, outputs first."""
        return self._info(name).shape

    def floats(self, name: str) -> F32:
        """A tensor dequantised to float32."""
        info = self._info(name)
        with np.errstate(all="ignore"):  # what overflows in a corrupt block is found by `finite`
            values = np.asarray(gguf.dequantize(self._rows(info), info.type), dtype=np.float32)
        return finite(values.reshape(info.shape), name, self.path)

    def codes(self, name: str) -> Codes | None:
        """A matrix's exact four-bit codes for Q4_0, Q4_1 and Q4_K."""
        info = self._info(name)
        unpack = _FOUR_BIT.get(info.type)
        if unpack is None or len(info.shape) != 2:
            return None
        blocks = self._rows(info).reshape(-1, gguf.GGML_QUANT_SIZES[info.type][1])
        with np.errstate(all="ignore"):
            nibbles, scale, minimum = unpack(blocks)
        rows = info.shape[0]
        return Codes(
            nibbles.reshape(info.shape),
            finite(scale.reshape(rows, -1), name, self.path),
            finite(minimum.reshape(rows, -1), name, self.path),
        )

    def _info(self, name: str) -> TensorInfo:
        if name not in self._tensors:
            raise BadModelFile(f"tensor {name} is missing", place=str(self.path))
        return self._tensors[name]

    def _rows(self, info: TensorInfo) -> NDArray[np.uint8]:
        """The tensor's bytes [rows][bytes a row]."""
        raw = np.frombuffer(self._bytes, np.uint8, info.size_bytes, info.begin)
        return raw.reshape(prod(info.shape[:-1]), -1)

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise BadModelFile(
                f"general.alignment is {alignment!r}, not a power of two", place=str(self.path)
            )
        return alignment


def _read_metadata(cursor: ByteCursor, num_keys: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(cursor.at_most(num_keys, least_bytes_each=13)):
        key = cursor.text()
        if key in metadata:
            raise cursor.bad(f"key {key!r} appears twice")
        metadata[key] = _read_value(cursor, cursor.integer("<u4"))
    return metadata


def _read_value(cursor: ByteCursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        return _read_array(cursor, cursor.integer("<u4"), cursor.integer("<u8"))
    return cursor.numbers(_scalar(cursor, kind), 1)[0]


def _read_array(cursor: ByteCursor, kind: int, count: int) -> list[Any]:
    if kind == _STRING:
        return [cursor.text() for _ in range(cursor.at_most(count, least_bytes_each=8))]
    return cursor.numbers(_scalar(cursor, kind), count)


def _scalar(cursor: ByteCursor, kind: int) -> str:
    if kind not in _SCALARS:
        raise cursor.bad(f"a value has the unknown type {kind}")
    return _SCALARS[kind]


def _read_tensor_infos(cursor: ByteCursor, num_tensors: int, alignment: int) -> dict[str, TensorInfo]:
    found: dict[str, tuple[tuple[int, ...], TensorType, int, int]] = {}
    for _ in range(cursor.at_most(num_tensors, least_bytes_each=24)):
        name = cursor.text()
        if name in found:
            raise cursor.bad(f"tensor {name} appears twice")
        if not 1 <= (num_dimensions := cursor.integer("<u4")) <= _MOST_DIMENSIONS:
            raise cursor.bad(f"tensor {name} has {num_dimensions} dimensions")
        shape = tuple(reversed(cursor.numbers("<u8", num_dimensions)))
        type_ = _tensor_type(cursor, name, cursor.integer("<u4"))
        found[name] = (shape, type_, cursor.integer("<u8"), _size_bytes(cursor, name, shape, type_))
    data_begin = -(-cursor.position // alignment) * alignment
    infos: dict[str, TensorInfo] = {}
    for name, (shape, type_, offset, size_bytes) in found.items():
        begin = data_begin + offset
        if offset % alignment or begin + size_bytes > cursor.size:
            raise cursor.bad(f"tensor {name} reaches beyond the end of the file (is the download complete?)")
        infos[name] = TensorInfo(shape, type_, begin, size_bytes)
    return infos


def _tensor_type(cursor: ByteCursor, name: str, code: int) -> TensorType:
    known = {type_.value: type_.name for type_ in TensorType}
    if code not in [type_.value for type_ in READABLE]:
        raise unsupported(f"tensor {name}'s type {known.get(code, code)}", str(cursor.path))
    return TensorType(code)


def _size_bytes(cursor: ByteCursor, name: str, shape: tuple[int, ...], type_: TensorType) -> int:
    block, block_bytes = gguf.GGML_QUANT_SIZES[type_]
    if 0 in shape or shape[-1] % block:
        raise cursor.bad(f"tensor {name} of shape {shape} cannot be {type_.name}")
    return prod(shape) // int(block) * int(block_bytes)


# Four-bit blocks to nibbles [blocks][inputs], scale and minimum [blocks][groups of 32].
_Unpacked = tuple[NDArray[np.uint8], F32, F32]


def _unpack_q4_0(blocks: NDArray[np.uint8]) -> _Unpacked:
    scale = _half(blocks[:, 0:2])
    return _low_then_high(blocks[:, 2:]), scale, -8 * scale


def _unpack_q4_1(blocks: NDArray[np.uint8]) -> _Unpacked:
    return _low_then_high(blocks[:, 4:]), _half(blocks[:, 0:2]), _half(blocks[:, 2:4])


def _unpack_q4_k(blocks: NDArray[np.uint8]) -> _Unpacked:
    """256 inputs: fp16 d and dmin, eight 6-bit scales and minima in 12 bytes, four runs of 32 bytes of
    nibbles."""
    low, high, mixed = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = np.concatenate([low & 63, (mixed & 15) | (low >> 6 << 4)], axis=1)
    minimum = np.concatenate([high & 63, (mixed >> 4) | (high >> 6 << 4)], axis=1)
    nibbles = _low_then_high(blocks[:, 16:].reshape(-1, 32)).reshape(-1, 256)
    return nibbles, _half(blocks[:, 0:2]) * scale, -_half(blocks[:, 2:4]) * minimum


def _low_then_high(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _half(two_bytes: NDArray[np.uint8]) -> F32:
    return np.ascontiguousarray(two_bytes).view("<f2").astype(np.float32)


_FOUR_BIT: dict[TensorType, Callable[[NDArray[np.uint8]], _Unpacked]] = {
    TensorType.Q4_0: _unpack_q4_0,
    TensorType.Q4_1: _unpack_q4_1,
    TensorType.Q4_K: _unpack_q4_k,
}
