"""Walking an untrusted file from front to back: nothing is read, or allocated, beyond the bytes that are
there."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from hokku.protocol.errors import BadModelFile


def map_file(path: Path) -> mmap.mmap:
    """The file's bytes, mapped read-only. Raises `BadModelFile`."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise BadModelFile(f"cannot be read: {error}", place=str(path)) from error


class ByteCursor:
    """A position in mapped bytes that moves forward only."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self.path = path
        self.position = 0
        self.size = len(data)

    def bad(self, what: str) -> BadModelFile:
        """The error for something wrong at this position."""
        return BadModelFile(f"{what}, before byte {self.position}", place=str(self.path))

    def at_most(self, count: int, *, least_bytes_each: int) -> int:
        """The same count, or `BadModelFile` when the rest of the file cannot hold that many."""
        if count * least_bytes_each > self.size - self.position:
            raise self.bad(f"a count of {count} reaches beyond the end of the file")
        return count

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.at_most(count, least_bytes_each=1)
        self.position += count
        return self._data[self.position - count : self.position]

    def numbers(self, dtype: str, count: int) -> list[Any]:
        """The next numbers of a numpy type, as Python values."""
        size_bytes = np.dtype(dtype).itemsize
        self.at_most(count, least_bytes_each=size_bytes)
        values: list[Any] = np.frombuffer(self._data, dtype, count, self.position).tolist()
        self.position += count * size_bytes
        return values

    def integer(self, dtype: str) -> int:
        """The next whole number."""
        return int(self.numbers(dtype, 1)[0])

    def text(self) -> str:
        """The next string: its length in eight bytes, then UTF-8."""
        raw = self.take(self.integer("<u8"))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.bad("a string is not UTF-8") from error
