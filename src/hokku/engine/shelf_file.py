"""The file of one cache entry on disk: a header, then the bytes of its pages.

    magic 8 | fingerprint 32 | key 32 | pages u32 | page_bytes u64 | MAC of the pages 32
    lifetime_secs u32 | expires_at f64 | MAC of everything before 32                        (little-endian)

Both MACs are BLAKE2b keyed with a secret of this installation, so what others made or changed, and what a full disk or
a power cut left, is told from what was written here. The header's is checked when files are listed, the pages' when
they are read. There is no text in the file: the key is a digest of the prompt's tokens (`request.cache_keys`), though
keys and values can tell who has the model much about them, hence the private permissions.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"hokkukv1"
DIGEST_BYTES: Final = 32
_FIELDS: Final = struct.Struct(f"<8s{DIGEST_BYTES}s{DIGEST_BYTES}sIQ{DIGEST_BYTES}sId")
HEADER_BYTES: Final = _FIELDS.size + DIGEST_BYTES

Bytes = NDArray[np.uint8]


class BadShelfFile(Exception):
    """Not a whole file that this installation wrote."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    fingerprint: bytes  # of the model, the format and the kernels that made the pages
    key: bytes  # of the entry
    num_pages: int
    page_bytes: int
    pages_mac: bytes
    lifetime_secs: int
    expires_at: float  # seconds since 1970

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return HEADER_BYTES + self.num_pages * self.page_bytes

    def pack(self, secret: bytes) -> bytes:
        """The header as bytes, with its MAC."""
        fields = _FIELDS.pack(
            MAGIC,
            self.fingerprint,
            self.key,
            self.num_pages,
            self.page_bytes,
            self.pages_mac,
            self.lifetime_secs,
            self.expires_at,
        )
        return fields + _mac(fields, secret, b"header")


def pages_mac(pages: Bytes, secret: bytes) -> bytes:
    """The MAC of all pages. `pages` is contiguous."""
    return _mac(pages.data.cast("B") if pages.size else b"", secret, b"pages")


def read_header(path: Path, secret: bytes) -> Header:
    """Check a file's size and its header. Raises `BadShelfFile`, `OSError`."""
    descriptor = _open_regular(path)
    with os.fdopen(descriptor, "rb") as stream:
        return _header(stream.read(HEADER_BYTES), os.fstat(descriptor).st_size, secret)


def read_pages(path: Path, secret: bytes) -> tuple[Header, Bytes]:
    """Check all of a file; its header and pages, [page][page_bytes]. Raises `BadShelfFile`, `OSError`."""
    descriptor = _open_regular(path)
    with os.fdopen(descriptor, "rb") as stream:
        header = _header(stream.read(HEADER_BYTES), os.fstat(descriptor).st_size, secret)
        pages = np.empty((header.num_pages, header.page_bytes), np.uint8)
        if pages.size and stream.readinto(pages.data.cast("B")) != pages.size:
            raise BadShelfFile("it ends early")
    if not hmac.compare_digest(pages_mac(pages, secret), header.pages_mac):
        raise BadShelfFile("its pages are not the ones that were written")
    return header, pages


def write_file(path: Path, header: Header, pages: Bytes, secret: bytes) -> None:
    """Write a whole file under a name of its own, then give it its own name. Raises `OSError`."""
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(header.pack(secret))
            if pages.size:
                stream.write(pages.data.cast("B"))
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def rewrite_header(path: Path, header: Header, secret: bytes) -> None:
    """Put a new header in the place of a file's own. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.pwrite(descriptor, header.pack(secret), 0)
    finally:
        os.close(descriptor)


def _open_regular(path: Path) -> int:
    """Open for reading; what is no regular file is refused without waiting for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadShelfFile("it is no regular file")
    return descriptor


def _header(data: bytes, file_bytes: int, secret: bytes) -> Header:
    if len(data) < HEADER_BYTES:
        raise BadShelfFile("it is too short")
    fields, mac = data[: _FIELDS.size], data[_FIELDS.size :]
    if not hmac.compare_digest(_mac(fields, secret, b"header"), mac):
        raise BadShelfFile("its header is not one that was written here")
    magic, *values = _FIELDS.unpack(fields)
    header = Header(*values)
    if magic != MAGIC or header.file_bytes != file_bytes:
        raise BadShelfFile("it is of another kind or length")
    return header


def _mac(data: bytes | memoryview, secret: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, key=secret, person=purpose).digest()
