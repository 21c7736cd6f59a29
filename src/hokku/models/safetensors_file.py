"""The safetensors container, checked while it is read and aligned when it is written.

Layout (the format's own README): eight bytes of header length, a JSON header naming each tensor's type, shape
and byte range, then the bytes. A file may hold more tensors than memory does: reading maps it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hokku.models.bytes_cursor import ByteCursor, map_file
from hokku.protocol.errors import BadModelFile

# BF16 has no numpy type: its bits travel as uint16.
NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "U16": "<u2", "U8": "u1", "I8": "i1", "I32": "<i4"}
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and how it is stored."""

    type: str  # the format's name: "BF16"
    shape: tuple[int, ...]
    begin: int  # byte offset in the file
    size_bytes: int


class SafetensorsFile:
    """One mapped file."""

    def __init__(self, path: Path) -> None:
        """Map the file and check its header. Raises `BadModelFile`."""
        self.path = path
        self._bytes = map_file(path)
        cursor = ByteCursor(self._bytes, path)
        header = _parse_header(cursor)
        self.metadata: dict[str, str] = _string_map(cursor, header.pop(_METADATA, {}))
        self.tensors = {name: _tensor_info(cursor, name, entry) for name, entry in header.items()}

    def array(self, name: str) -> NDArray[Any]:
        """A tensor as a read-only array on the mapped bytes; BF16 as the bits' uint16. Copies nothing."""
        info = self.tensors[name]
        dtype = NUMPY_TYPES[info.type]
        return np.frombuffer(self._bytes, dtype, prod(info.shape), info.begin).reshape(info.shape)


def _parse_header(cursor: ByteCursor) -> dict[str, Any]:
    size_bytes = cursor.integer("<u8")
    if size_bytes > _MOST_HEADER_BYTES:
        raise cursor.bad(f"a header of {size_bytes} bytes is beyond what safetensors allows")
    try:
        header = json.loads(cursor.take(size_bytes))
    except (ValueError, RecursionError) as error:
        raise cursor.bad("the header is not JSON") from error
    if not isinstance(header, dict):
        raise cursor.bad("the header is not a JSON object")
    return header


def _string_map(cursor: ByteCursor, values: Any) -> dict[str, str]:
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise cursor.bad("the metadata is not a map of strings")
    return values


def _tensor_info(cursor: ByteCursor, name: str, entry: Any) -> TensorInfo:
    try:
        type_, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError) as error:
        raise cursor.bad(f"the header's entry for tensor {name} is malformed") from error
    if not whole or not isinstance(type_, str):
        raise cursor.bad(f"the header's entry for tensor {name} is malformed")
    if type_ not in NUMPY_TYPES:
        raise BadModelFile(f"tensor {name}'s type {type_[:20]} is not supported", place=str(cursor.path))
    size_bytes = prod(shape) * np.dtype(NUMPY_TYPES[type_]).itemsize
    if end - begin != size_bytes or cursor.position + end > cursor.size:
        raise cursor.bad(f"tensor {name} reaches beyond the end of the file (is the download complete?)")
    return TensorInfo(type_, shape, cursor.position + begin, size_bytes)
