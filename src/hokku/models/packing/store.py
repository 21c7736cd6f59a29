"""The packed form on disk: one safetensors file of arrays in the kernels' own layout, used where it lies.

Every array begins on a 64-byte border, as the kernels demand (csrc/kernels.h); filler entries take up the
bytes between, because the container allows no holes. The file is written under another name, flushed to the
disk and renamed, so whoever finds it finds all of it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hokku.models.safetensors_file import NUMPY_TYPES, SafetensorsFile
from hokku.protocol.errors import BadModelFile, BadSetting, DiskFull

ALIGNMENT_BYTES = 64
_FILLER = "~"
_TYPE_NAMES = {np.dtype(dtype): name for name, dtype in NUMPY_TYPES.items() if name != "BF16"}
# A header entry for one array and its filler: two names, two shapes, four offsets.
_ENTRY_BYTES = 320
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PackedWriter:
    """Arrays appended one by one, so that only one is in memory; the header goes into space kept for it."""

    def __init__(self, file: IO[bytes], num_arrays: int, metadata: dict[str, str]) -> None:
        self._file = file
        self._metadata = metadata
        self._entries: dict[str, Any] = {}
        self._end = 0  # bytes of data so far
        header_bytes = len(json.dumps(metadata)) + num_arrays * _ENTRY_BYTES + ALIGNMENT_BYTES
        self._data_begin = _aligned(8 + header_bytes)
        file.seek(self._data_begin)

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Append an array and its filler."""
        self._append(name, np.ascontiguousarray(array))
        if filler := _aligned(self._end) - self._end:
            self._append(f"{_FILLER}{len(self._entries)}", np.zeros(filler, np.uint8))

    def finish(self) -> None:
        """Write the header and make everything durable."""
        header = json.dumps({"__metadata__": self._metadata, **self._entries}).encode()
        self._file.seek(0)
        size_bytes = self._data_begin - 8
        self._file.write(size_bytes.to_bytes(8, "little") + header.ljust(size_bytes))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _append(self, name: str, array: NDArray[Any]) -> None:
        begin, self._end = self._end, self._end + array.nbytes
        self._entries[name] = {
            "dtype": _TYPE_NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, self._end],
        }
        self._file.write(array.data if array.size else b"")


class PackedArrays:
    """A packed file, mapped. Arrays are read-only views of it."""

    def __init__(self, path: Path) -> None:
        """Check header, sizes and alignment. Raises `BadModelFile`."""
        self._file = SafetensorsFile(path)
        self.metadata = self._file.metadata
        infos = self._file.tensors
        aligned = all(
            info.begin % ALIGNMENT_BYTES == 0 for name, info in infos.items() if not name.startswith(_FILLER)
        )
        if (
            not infos
            or not aligned
            or path.stat().st_size != max(i.begin + i.size_bytes for i in infos.values())
        ):
            raise BadModelFile("not a packed model, or not all of one", place=str(path))

    def __contains__(self, name: str) -> bool:
        return name in self._file.tensors

    def array(self, name: str) -> NDArray[Any]:
        """An array by its name. Raises `BadModelFile` when it is missing."""
        if name not in self._file.tensors:
            raise BadModelFile(f"array {name} is missing", place=str(self._file.path))
        return self._file.array(name)

    def names(self) -> Iterator[str]:
        """Names of all arrays, fillers left out."""
        return (name for name in self._file.tensors if not name.startswith(_FILLER))


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under `path` when the block ends well, and not at all otherwise.

    Raises:
        DiskFull: there is no room for it.
        BadSetting: the folder cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"no room to write the packed model: {error.strerror}",
                place=str(path.parent),
                way_out="free some space there or keep models elsewhere with HOKKU_CACHE_DIR",
            ) from error
        raise BadSetting(
            f"the packed model cannot be written: {error.strerror}",
            place=str(path.parent),
            way_out="make the folder writable or keep models elsewhere with HOKKU_CACHE_DIR",
        ) from error
    finally:
        with suppress(OSError):  # gone already, or never made
            unfinished.unlink()


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
