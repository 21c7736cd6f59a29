"""Cache entries on disk: those that memory had no room for, and those of an hour or more, which outlast a restart.

One thread reads and writes files; the engine's thread leaves copies of pages with it and never waits. The thread hands
an entry that was asked for to `on_loaded`. Whatever goes wrong with a file (corrupt, cut short, expired, of another
installation, or the disk full) costs its entry and nothing else: the prompt is computed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Final, Protocol

from hokku.engine.shelf_file import (
    BadShelfFile,
    Bytes,
    Header,
    pages_mac,
    read_header,
    read_pages,
    rewrite_header,
    write_file,
)

_log = logging.getLogger(__name__)

_SECRET_BYTES: Final = 32
_SUFFIX: Final = ".kv"
_OLD_DRAFT_SECS: Final = 3600  # a draft left by a process that ended in the middle of it
# Copies of pages that wait for the disk; an entry beyond them, unless it is alone, is not stored.
_MAX_QUEUED_BYTES: Final = 256 << 20
# A file's own expiry follows the entry's when it is this share of the lifetime behind.
_RENEWAL_SHARE: Final = 0.1

OnLoaded = Callable[[bytes, Bytes | None], None]


def installation_secret(file: Path) -> bytes:
    """The secret of `ShelfConfig`, made now if there is none. Raises `OSError`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(secrets.token_bytes(_SECRET_BYTES))
    try:
        os.link(draft, file)  # whole or not at all; of two servers that start at once, one makes it
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    secret = file.read_bytes()
    if len(secret) != _SECRET_BYTES:
        raise OSError(f"{file} is damaged; delete it")
    return secret


class PageStore(Protocol):
    """The memory of keys and values, as `kernels.PagePool` has it."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page, all layers together."""

    def read_pages(self, pages: Sequence[int]) -> Bytes:
        """A copy of whole pages, [page][page_bytes]."""

    def write_pages(self, pages: Sequence[int], data: Bytes) -> None:
        """Fill whole pages with what `read_pages` gave."""


@dataclass(frozen=True, slots=True)
class ShelfConfig:
    """Where entries lie and whose they are.

    `fingerprint` (32 bytes) names everything that the bits of a page depend on: weights, format, kernels, geometry.
    """

    directory: Path
    max_bytes: int
    secret: bytes
    fingerprint: bytes


@dataclass(slots=True)
class Stored:
    """One file, or one that is about to be written."""

    header: Header
    written_expiry: float  # what the file itself says


class Shelf:
    """The entries on disk. `find`, `store`, `renew`, `load` and `remove` are for the engine's thread and return at
    once."""

    def __init__(self, config: ShelfConfig, pages: PageStore, clock: Callable[[], float] = time) -> None:
        """List what is there and remove what cannot be used. Raises `OSError` where there can be no directory."""
        self.pages = pages
        self._config = config
        self._clock = clock
        self._on_loaded: OnLoaded = lambda _key, _pages: None
        # Guarded by the condition:
        self._has_jobs = threading.Condition()
        self._stored: OrderedDict[str, Stored] = OrderedDict()  # by file name, least recently used first
        self._num_bytes = 0
        self._loads: deque[bytes] = deque()
        self._renewals: deque[str] = deque()
        self._writes: OrderedDict[str, Bytes] = OrderedDict()  # pages by file name
        self._num_queued_bytes = 0
        self._is_closing = False
        config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._list_files()
        self._thread = threading.Thread(target=self._serve, name="hokku-shelf", daemon=True)

    def start(self, on_loaded: OnLoaded) -> None:
        """Begin to work. `on_loaded` is called on the shelf's thread with what `load` asked for, None if it is not to
        be had."""
        self._on_loaded = on_loaded
        self._thread.start()

    def find(self, key: bytes) -> Header | None:
        """The entry of this key, if it is here and its time is not over."""
        with self._has_jobs:
            if not self._stored:
                return None  # the name is a digest, and there are twenty borders to a breakpoint
            stored = self._stored.get(self._name(key))
            return stored.header if stored and stored.header.expires_at > self._clock() else None

    def store(self, key: bytes, lifetime_secs: int, expires_at: float, pages: Bytes) -> None:
        """Write an entry; the array is the shelf's from here on."""
        unsigned = b""  # the thread computes the MAC
        header = Header(
            self._config.fingerprint,
            key,
            len(pages),
            self.pages.page_bytes,
            unsigned,
            lifetime_secs,
            expires_at,
        )
        name = self._name(key)
        with self._has_jobs:
            is_too_much = self._writes and self._num_queued_bytes + pages.nbytes > _MAX_QUEUED_BYTES
            if is_too_much or header.file_bytes > self._config.max_bytes or self._is_closing:
                _log.info("no room to store a cache entry of %d bytes", pages.nbytes)
                return
            self._forget(name)
            self._stored[name] = Stored(header, expires_at)
            self._num_bytes += header.file_bytes
            self._writes[name] = pages
            self._num_queued_bytes += pages.nbytes
            self._has_jobs.notify()

    def renew(self, key: bytes, lifetime_secs: int, expires_at: float) -> None:
        """An entry has been used: it lives until then, and is the last to go for want of space."""
        name = self._name(key)
        with self._has_jobs:
            stored = self._stored.get(name)
            if stored is None:
                return
            stored.header = replace(stored.header, lifetime_secs=lifetime_secs, expires_at=expires_at)
            self._stored.move_to_end(name)
            if expires_at - stored.written_expiry >= _RENEWAL_SHARE * lifetime_secs:
                stored.written_expiry = expires_at
                if name not in self._writes:
                    self._renewals.append(name)
                    self._has_jobs.notify()

    def load(self, key: bytes) -> None:
        """Read an entry; `on_loaded` gets it."""
        with self._has_jobs:
            self._loads.append(key)
            self._has_jobs.notify()

    def remove(self, key: bytes) -> None:
        """Forget an entry, whose pages are not to be trusted."""
        with self._has_jobs:
            self._discard(self._name(key))

    def close(self) -> None:
        """Write what is still to be written, and end the thread. Idempotent."""
        with self._has_jobs:
            self._is_closing = True
            self._has_jobs.notify()
        if self._thread.is_alive():
            self._thread.join()

    # The shelf's thread.

    def _serve(self) -> None:
        while job := self._next_job():
            try:
                job()
            except Exception:
                _log.exception("a job of the cache on disk failed; its entry is computed again")

    def _next_job(self) -> Callable[[], None] | None:
        """Loads first: somebody waits for them. None at the end."""
        with self._has_jobs:
            while not (self._loads or self._renewals or self._writes or self._is_closing):
                self._has_jobs.wait()
            if self._loads and not self._is_closing:
                key = self._loads.popleft()
                return lambda: self._load(key)
            if self._renewals:
                renewed = self._renewals.popleft()
                return lambda: self._renew(renewed)
            if self._writes:
                name = next(iter(self._writes))
                return lambda: self._write(name)
            return None

    def _load(self, key: bytes) -> None:
        pages = None
        try:
            pages = self._read(key)
        finally:
            self._on_loaded(key, pages)

    def _read(self, key: bytes) -> Bytes | None:
        name = self._name(key)
        with self._has_jobs:
            if name not in self._stored:
                return None
            if name in self._writes:
                return self._writes[name]
        try:
            header, pages = read_pages(self._path(name), self._config.secret)
            found = (header.fingerprint, header.key, header.page_bytes)
            if found != (self._config.fingerprint, key, self.pages.page_bytes):
                raise BadShelfFile("it is another entry's")
        except (BadShelfFile, OSError, MemoryError) as cause:
            _log.warning("a cache entry on disk cannot be used and is removed: %s", cause)
            with self._has_jobs:
                self._discard(name)
            return None
        return pages

    def _renew(self, name: str) -> None:
        with self._has_jobs:
            stored = self._stored.get(name)
            if stored is None or name in self._writes:
                return
            header = stored.header
        try:
            rewrite_header(self._path(name), header, self._config.secret)
        except OSError as cause:
            _log.warning("a cache entry on disk could not be renewed: %s", cause)

    def _write(self, name: str) -> None:
        with self._has_jobs:
            pages = self._writes[name]
        mac = pages_mac(pages, self._config.secret)
        with self._has_jobs:
            stored = self._stored.get(name)
            if stored is None or self._writes.get(name) is not pages:
                return  # removed, or replaced, meanwhile
            stored.header = replace(stored.header, pages_mac=mac)
            stored.written_expiry = stored.header.expires_at
            header = stored.header
            self._make_space()
        try:
            write_file(self._path(name), header, pages, self._config.secret)
        except OSError as cause:
            _log.warning("a cache entry could not be written to disk: %s", cause)
            with self._has_jobs:
                self._discard(name)
            return
        with self._has_jobs:
            if self._writes.get(name) is pages:
                self._drop_write(name)
            elif name not in self._stored:
                _remove(self._path(name))  # removed while it was written

    # With the condition held.

    def _make_space(self) -> None:
        """Remove what is over its time, then the least recently used, until the files fit."""
        now = self._clock()
        for name, stored in list(self._stored.items()):
            if stored.header.expires_at <= now and name not in self._writes:
                self._discard(name)
        for name in list(self._stored):
            if self._num_bytes <= self._config.max_bytes:
                break
            if name not in self._writes:
                self._discard(name)

    def _discard(self, name: str) -> None:
        self._forget(name)
        _remove(self._path(name))

    def _forget(self, name: str) -> None:
        stored = self._stored.pop(name, None)
        if stored is not None:
            self._num_bytes -= stored.header.file_bytes
        self._drop_write(name)

    def _drop_write(self, name: str) -> None:
        pages = self._writes.pop(name, None)
        if pages is not None:
            self._num_queued_bytes -= pages.nbytes

    # Files.

    def _list_files(self) -> None:
        found: list[tuple[float, str, Header]] = []
        for path in self._config.directory.iterdir():
            if path.suffix == _SUFFIX:
                header = self._usable(path)
                if header is not None:
                    found.append((_modified_at(path), path.name, header))
            elif path.suffix == ".draft" and _modified_at(path) < time() - _OLD_DRAFT_SECS:
                _remove(path)
        for _, name, header in sorted(found, key=lambda each: each[:2]):
            self._stored[name] = Stored(header, header.expires_at)
            self._num_bytes += header.file_bytes
        self._make_space()

    def _usable(self, path: Path) -> Header | None:
        """A file's header; None, and no file any more, if it is broken. Those of other models stay until their time
        is over, and count towards the space."""
        try:
            header = read_header(path, self._config.secret)
            if path.name != self._name_of(header.fingerprint, header.key):
                raise BadShelfFile("it is another entry's")
        except (BadShelfFile, OSError) as cause:
            _log.warning("a cache entry on disk cannot be used and is removed: %s", cause)
            _remove(path)
            return None
        return header

    def _name(self, key: bytes) -> str:
        return self._name_of(self._config.fingerprint, key)

    def _name_of(self, fingerprint: bytes, key: bytes) -> str:
        digest = hashlib.blake2b(fingerprint + key, digest_size=16, key=self._config.secret, person=b"name")
        return digest.hexdigest() + _SUFFIX

    def _path(self, name: str) -> Path:
        return self._config.directory / name


def _modified_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:  # another process has removed it
        return 0.0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as cause:
        _log.warning("a cache entry on disk cannot be removed: %s", cause)
