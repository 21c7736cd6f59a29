"""The way into the ledger: nothing taken is lost while the process lives, and nothing is written twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from hokku.protocol.errors import StorageUnavailable
from hokku.protocol.records import LedgerEntry
from hokku.service import ledger as room
from hokku.service.ledger import Ledger

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def entry(number: int) -> LedgerEntry:
    return LedgerEntry(NOW, f"req_{number}", "wrkspc", None, "model", "standard", "succeeded", {}, {})


class Rows:
    """A database that fails as often as it is told to."""

    def __init__(self, num_failures: int = 0, error: Exception | None = None, *, keeps: bool = False) -> None:
        """`keeps`: what failed was written all the same."""
        self._keeps = keeps
        self.written: list[str] = []
        self.num_calls = 0
        self._num_failures = num_failures
        self._error = error or StorageUnavailable("away")
        self.may_write = threading.Event()
        self.may_write.set()

    @property
    def ledger(self) -> Rows:
        return self

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        self.may_write.wait(10)
        self.num_calls += 1
        if self.num_calls <= self._num_failures:
            if self._keeps:
                self._keep(entries)
            raise self._error
        self._keep(entries)

    def append_again(self, entries: Sequence[LedgerEntry]) -> None:
        assert self.num_calls
        self.append([each for each in entries if each.request_id not in self.written])

    def _keep(self, entries: Sequence[LedgerEntry]) -> None:
        self.written += [each.request_id for each in entries]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PAUSE_SECS", 0.001)


def test_what_is_taken_is_written_in_order_and_together() -> None:
    rows = Rows()
    rows.may_write.clear()
    ledger = Ledger(rows)
    for number in range(2_500):
        ledger.book(entry(number))
    rows.may_write.set()
    ledger.close()
    assert rows.written == [f"req_{number}" for number in range(2_500)]
    assert rows.num_calls <= 4


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("error", [StorageUnavailable("away"), RuntimeError("broken")])
def test_a_database_that_fails_is_tried_again(error: Exception, keeps: bool) -> None:
    rows = Rows(num_failures=3, error=error, keeps=keeps)
    ledger = Ledger(rows)
    ledger.book(entry(1))
    ledger.book(entry(2))
    assert ledger.flush(10)
    assert sorted(rows.written) == ["req_1", "req_2"]
    ledger.close()


def test_what_a_dead_database_does_not_take_is_logged_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(Rows(num_failures=10**9))
    ledger.book(entry(7))
    with caplog.at_level(logging.ERROR):
        ledger.close(timeout_secs=0.05)
    assert "could not be booked" in caplog.text
    assert "req_7" in caplog.text


def test_a_ledger_that_was_never_used_opens_nothing() -> None:
    ledger = Ledger(None)  # type: ignore[arg-type]
    assert ledger.flush(0)
    ledger.close()
