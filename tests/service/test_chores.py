"""Chores: done at the start and again, whatever becomes of one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from hokku.protocol.errors import StorageUnavailable
from hokku.service.chores import Chores


@pytest.mark.parametrize("failure", [StorageUnavailable("away"), ValueError("a slip")])
def test_a_chore_that_fails_is_tried_again(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    told: list[datetime] = []
    is_done = threading.Event()

    def fails_once(now: datetime) -> None:
        told.append(now)
        if len(told) == 1:
            raise failure
        is_done.set()

    others = 0

    def other(now: datetime) -> None:
        nonlocal others
        others += 1

    chores = Chores({"tidying": fails_once, "another": other}, every_secs=0.001)
    chores.start()
    assert is_done.wait(60)
    chores.stop()
    assert told[0].tzinfo is UTC
    assert others
    assert "tidying" in caplog.text


def test_stopping_what_never_started_does_no_harm() -> None:
    Chores({}).stop()
