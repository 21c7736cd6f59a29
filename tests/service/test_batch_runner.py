"""The runner of batches when something is in its way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from hokku.protocol.batches import Batch, Conclusion
from hokku.protocol.engine import Priority
from hokku.service.batches import Batches
from hokku.service.keys import Identity
from hokku.storage.schema import batches
from tests.batches import QUICK, BatchHouse, a_request, batch_house, wait_until
from tests.fakes import FakeEngine, Script, says


@pytest.fixture
def house(tmp_path: Path) -> Iterator[BatchHouse]:
    engine = FakeEngine()
    with batch_house(engine, tmp_path) as house:
        yield house
    engine.close()


def engine_of(house: BatchHouse) -> FakeEngine:
    engine = house.services.catalogue.resolve("claude-3-5-haiku-latest").engine
    assert isinstance(engine, FakeEngine)
    return engine


def make(house: BatchHouse, number: int) -> Batch:
    draft = house.services.batches.draft(Identity(), '{"version": "2023-06-01", "betas": []}')
    for place in range(number):
        draft.take(f"r{place}", json.dumps(a_request(f"r{place}")).encode(), b"")
    return draft.keep()


def has_ended(house: BatchHouse, batch: Batch) -> bool:
    return house.storage.batches.find(batch.id).status == "ended"


def test_two_runners_share_a_batch(house: BatchHouse) -> None:
    batch = make(house, 60)
    other = house.another_runner()
    house.runner.start()
    other.start()
    wait_until(lambda: has_ended(house, batch))
    other.park()
    assert house.storage.batches.find(batch.id).counts.succeeded == 60
    assert len(engine_of(house).requests) == 60
    assert len(list(house.blobs.entries())) == 1


def test_an_overloaded_engine_is_tried_again(house: BatchHouse) -> None:
    engine_of(house).max_requests = 2  # fewer than the runner has in flight
    batch = make(house, 20)
    house.runner.start()
    wait_until(lambda: has_ended(house, batch))
    assert house.storage.batches.find(batch.id).counts.succeeded == 20


def test_a_runner_holds_what_it_has_claimed_and_no_more(
    house: BatchHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the batch: at most thrice what it answers side by side is claimed, under way or not kept yet."""
    batch = make(house, 400)
    runner, held = house.runner, []
    begin = runner._begin

    def counted(*begun: Any) -> None:
        begin(*begun)
        num_answered = sum(map(len, runner._answered.values()))
        held.append(len(runner._held) + len(runner._under_way) + num_answered)

    monkeypatch.setattr(runner, "_begin", counted)
    runner.start()
    wait_until(lambda: has_ended(house, batch))
    assert len(held) == 400
    assert max(held) <= 3 * QUICK.num_in_flight
    assert [len(each) for each in (runner._held, runner._under_way, runner._answered)] == [0, 0, 0]


def test_a_full_disk_makes_batches_wait(house: BatchHouse, caplog: pytest.LogCaptureFixture) -> None:
    batch = make(house, 40)
    engine_of(house).script = says("x" * 5_000)
    # SQLite's own way to a full disk: the file may not grow. A setting of each connection.
    pool = house.storage.database.engine
    connections = [pool.connect() for _ in range(3)]
    for connection in connections:
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    raw = [connection.connection.driver_connection for connection in connections]
    for connection in connections:
        connection.close()
    house.runner.start()
    wait_until(lambda: "batches wait: The disk of the database is full" in caplog.text)
    assert not has_ended(house, batch)
    for each in raw:
        each.execute("PRAGMA max_page_count = 1000000")  # type: ignore[union-attr]
    wait_until(lambda: has_ended(house, batch))
    assert "batches go on" in caplog.text
    assert house.storage.batches.find(batch.id).counts.succeeded == 40


def test_small_batches_do_not_wait_for_large_ones(house: BatchHouse) -> None:
    engine_of(house).step_secs = 0.001
    large, small = make(house, 400), make(house, 4)
    house.runner.start()
    wait_until(lambda: has_ended(house, small))
    assert not has_ended(house, large)


def test_what_is_parked_is_given_back(house: BatchHouse) -> None:
    engine_of(house).script = lambda _request: Script([], starts=False)
    batch = make(house, 20)
    house.runner.start()
    wait_until(lambda: house.storage.batches.is_worked_on(batch.id, datetime.now(UTC)))
    house.runner.park()
    assert not house.storage.batches.is_worked_on(batch.id, datetime.now(UTC))
    assert house.storage.batches.find(batch.id).counts.processing == 20


def test_batches_wait_for_everybody_else(house: BatchHouse) -> None:
    batch = make(house, 3)
    house.runner.start()
    wait_until(lambda: has_ended(house, batch))
    assert {request.priority for request in engine_of(house).requests} == {Priority.BATCH}


def test_a_woken_runner_begins(house: BatchHouse) -> None:
    house.runner.start(is_idle=True)
    batch = make(house, 1)
    wait_until(lambda: has_ended(house, batch))


def test_old_results_go(house: BatchHouse) -> None:
    batch = make(house, 2)
    house.runner.start()
    wait_until(lambda: has_ended(house, batch))
    house.runner.park()
    old = int((datetime.now(UTC) - timedelta(days=30)).timestamp() * 1e6)
    with house.storage.database.write() as connection:
        connection.execute(update(batches).values(created_at=old))
    again = house.another_runner()
    again.start()
    wait_until(lambda: house.storage.batches.find(batch.id).archived_at is not None)
    wait_until(lambda: not list(house.blobs.entries()))
    again.park()


def test_an_expired_batch_ends(house: BatchHouse) -> None:
    batch = make(house, 3)
    past = int(datetime.now(UTC).timestamp() * 1e6)
    with house.storage.database.write() as connection:
        connection.execute(update(batches).values(expires_at=past))
    house.runner.start()
    wait_until(lambda: has_ended(house, batch))
    assert house.storage.batches.find(batch.id).counts.expired == 3


def test_observers_hear_of_each_request_once(house: BatchHouse) -> None:
    heard: list[Conclusion] = []
    runner = house.another_runner(observe=heard.append)
    done, canceled = make(house, 5), make(house, 7)
    house.storage.batches.cancel(canceled.id, canceled.workspace_id, datetime.now(UTC))
    runner.start()
    wait_until(lambda: has_ended(house, done) and has_ended(house, canceled))
    runner.park()
    answered = [each for each in heard if each.outcome == "succeeded"]
    assert [each.number for each in answered] == [1] * 5
    assert all(each.secs and each.tokens["output"] for each in answered)
    assert [each for each in heard if each.outcome != "succeeded"] == [Conclusion("", "canceled", 7)]


def test_a_draft_that_cannot_be_kept_leaves_nothing(house: BatchHouse) -> None:
    with house.storage.database.write() as connection:
        connection.execute(text("DROP TABLE batch_requests"))
    with pytest.raises(Exception, match="batch_requests"):
        make(house, 1)
    assert list(house.blobs.entries()) == []
    assert isinstance(house.services.batches, Batches)
