"""Books what requests used. A reply never waits for it: a thread writes all that has come together since it last wrote.

What could not be written is tried again until it can; only a process that is killed within these milliseconds loses
the rows of replies that ended in them. (Batches book in the transaction of their results and lose nothing.)
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from hokku.protocol.errors import StorageUnavailable
from hokku.protocol.records import LedgerEntry

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 1_000  # entries of one transaction
_MOST_WAITING = 1_000_000  # a day without a database; what comes then is logged and lost
_PAUSE_SECS = 1.0  # after a failure
# A transaction takes half a millisecond of the interpreter, for one entry as for ten: so a few may come together.
_GATHER_SECS = 0.02


class LedgerRows(Protocol):
    """Where entries are kept. Blocks."""

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Book requests, all or none. Raises `StorageUnavailable`."""

    def append_again(self, entries: Sequence[LedgerEntry]) -> None:
        """Book those that are not booked yet, after an attempt that failed. Raises `StorageUnavailable`."""


class Rows(Protocol):
    """Opens the ledger when it is first needed."""

    @property
    def ledger(self) -> LedgerRows:
        """The opened ledger. Raises `StorageUnavailable`."""


class Ledger:
    """The way into the ledger. Its thread starts with the first entry; `close` writes what is left."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._waiting: deque[LedgerEntry] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_writing = False
        self._has_failed = False  # the last attempt, of which something may have been kept all the same
        self._is_flushing = False
        self._is_closing = False

    def book(self, entry: LedgerEntry) -> None:
        """Take an entry; returns at once. Safe from any thread."""
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                _log.error("the ledger has no room left; lost: %s", entry)
                return
            self._waiting.append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hokku-ledger", daemon=True)
                self._thread.start()
            if (
                len(self._waiting) == 1
            ):  # otherwise the thread knows, and waking it would cost the caller a switch
                self._changed.notify_all()

    def flush(self, timeout_secs: float) -> bool:
        """Wait until everything taken so far is written; whether it is."""
        with self._changed:
            self._is_flushing = True
            self._changed.notify_all()
            is_written = self._changed.wait_for(
                lambda: not self._waiting and not self._is_writing, timeout_secs
            )
            self._is_flushing = False
        return is_written

    def close(self, timeout_secs: float = 10.0) -> None:
        """Write what is left and end. What a dead database does not take in time is logged."""
        is_written = self.flush(timeout_secs)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            if not is_written:
                for entry in self._waiting:
                    _log.error("could not be booked: %s", entry)
        if self._thread is not None:
            self._thread.join(timeout_secs)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if self._is_closing:
                    return
                self._is_writing = True
                self._changed.wait_for(lambda: self._is_closing or self._is_flushing, _GATHER_SECS)
                entries = [self._waiting[place] for place in range(min(len(self._waiting), _MOST_AT_ONCE))]
            is_written = self._write(entries)
            with self._changed:
                self._is_writing = False
                if is_written:
                    for _ in entries:
                        self._waiting.popleft()
                    self._changed.notify_all()
                else:
                    self._changed.wait_for(lambda: self._is_closing, _PAUSE_SECS)

    def _write(self, entries: Sequence[LedgerEntry]) -> bool:
        has_failed, self._has_failed = self._has_failed, True
        try:
            rows = self._rows.ledger
            (rows.append_again if has_failed else rows.append)(entries)
        except StorageUnavailable as cause:
            _log.warning("%d requests wait to be booked: %s", len(entries), cause)
            return False
        except Exception:
            _log.exception("%d requests wait to be booked", len(entries))
            return False
        self._has_failed = False
        return True
