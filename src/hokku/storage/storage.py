"""Everything the platform remembers, opened when it is first needed.

A server that nobody has given keys of the database starts without loading SQLAlchemy; the first request that has to be
booked, or shows an unknown key, pays for it, on a thread.
"""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hokku.storage.revision import check, migrate, quick_look, revision_of

if TYPE_CHECKING:
    from hokku.storage.batches import BatchStore
    from hokku.storage.database import Database
    from hokku.storage.files import FileStore
    from hokku.storage.keys import KeyStore
    from hokku.storage.ledger import LedgerStore
    from hokku.storage.limits import LimitStore

_SQLITE = "sqlite:///"


class Storage:
    """One database and its verbs. Safe to share between threads; every verb blocks.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/name`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._opened: Database | None = None
        self._has_limits = True
        self._has_batches = True
        self._has_files = True

    def check(self) -> None:
        """Look at the database before anybody relies on it. A new and empty one gets its tables when it is opened.

        Raises:
            BadSetting: no such kind of database, or no driver for it.
            DatabaseMismatch: it is of another release.
            StorageUnavailable: it does not answer.
        """
        if self._url.startswith(_SQLITE):
            file = Path(self._url.removeprefix(_SQLITE))
            found = quick_look(file)
            self._has_limits = found.has_limits
            self._has_batches = found.has_batches
            self._has_files = found.has_files
            if found.is_current or not file.exists():
                return
        self.database  # noqa: B018 - opening is looking

    @property
    def reads_at_once(self) -> bool:
        """Whether it is open and a file: then no reader waits, neither for the network nor for a writer."""
        return self._opened is not None and self._opened.is_sqlite

    @property
    def may_have_limits(self) -> bool:
        """False as long as a first look has found none and nobody has opened the database since."""
        return self._has_limits or self._opened is not None

    def ping(self) -> None:
        """See that the database answers now. Raises like `check`."""
        if self._opened is None:
            self.check()
        else:
            self._opened.ping()

    @property
    def may_have_batches(self) -> bool:
        """Like `may_have_limits`."""
        return self._has_batches or self._opened is not None

    @property
    def may_have_files(self) -> bool:
        """Like `may_have_limits`."""
        return self._has_files or self._opened is not None

    @cached_property
    def keys(self) -> KeyStore:
        """Workspaces and keys."""
        from hokku.storage.keys import KeyStore

        return KeyStore(self.database)

    @cached_property
    def ledger(self) -> LedgerStore:
        """What requests used."""
        from hokku.storage.ledger import LedgerStore

        return LedgerStore(self.database)

    @cached_property
    def limits(self) -> LimitStore:
        """How much may be used."""
        from hokku.storage.limits import LimitStore

        return LimitStore(self.database)

    @cached_property
    def batches(self) -> BatchStore:
        """Message Batches and their requests."""
        from hokku.storage.batches import BatchStore

        return BatchStore(self.database, self.ledger)

    @cached_property
    def files(self) -> FileStore:
        """What clients have uploaded."""
        from hokku.storage.files import FileStore

        return FileStore(self.database)

    @property
    def database(self) -> Database:
        """The opened database. Raises like `check`."""
        with self._lock:
            if self._opened is None:
                self._opened = _opened(self._url)
            return self._opened

    def close(self) -> None:
        """Let go of every connection."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()


def _opened(url: str) -> Database:
    from hokku.storage.database import Database

    database = Database(url)
    if revision_of(database) is None:
        migrate(database)
    else:
        check(database)
    return database
