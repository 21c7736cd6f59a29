"""Message Batches on both databases: nothing lost, nothing twice, whatever runners do and whoever dies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Thread
from typing import Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import event, func, select

from hokku.protocol.batches import Answer, Batch, BatchCounts, BatchedRequest, Claim, Settlement
from hokku.protocol.errors import InvalidRequest, NotFound, RateLimited
from hokku.protocol.records import LedgerEntry, LimitRule, Outcome, UsageQuery
from hokku.storage.batches import BatchStore
from hokku.storage.database import Database
from hokku.storage.ledger import LedgerStore
from hokku.storage.limits import LimitStore
from hokku.storage.schema import batch_requests, ledger

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LEASE = timedelta(seconds=10)
DAY = timedelta(days=1)
_numbers = count()


def a_batch(num_requests: int, *, workspace: str = "wrkspc_1", created_at: datetime = NOW) -> Batch:
    name = f"msgbatch_{next(_numbers)}"
    counts = BatchCounts(num_requests)
    return Batch(name, workspace, "apikey_1", "{}", created_at, created_at + DAY, counts, f"{name}.in")


def requests(number: int) -> list[BatchedRequest]:
    return [BatchedRequest(f"request-{place}", place * 100, 100) for place in range(number)]


def entry(claim: Claim, outcome: Outcome = "succeeded") -> LedgerEntry:
    return LedgerEntry(
        NOW,
        "workerreq_1",
        "wrkspc_1",
        "apikey_1",
        "haiku",
        "batch",
        outcome,
        {"input": claim.position + 1} if outcome == "succeeded" else {},
        {},
        claim.batch_id,
        claim.position,
    )


def answer(claim: Claim) -> Answer:
    """Every fourth one fails."""
    outcome: Literal["succeeded", "errored"] = "errored" if claim.position % 4 == 3 else "succeeded"
    return Answer(claim.position, outcome, f'{{"it": {claim.position}}}', entry(claim, outcome), secs=0.5)


@pytest.fixture
def store(database: Database) -> BatchStore:
    return BatchStore(database, LedgerStore(database))


def test_a_batch_s_life(store: BatchStore, database: Database) -> None:
    batch = a_batch(3)
    store.add(batch, requests(3))
    assert store.batch(batch.id, "wrkspc_1") == batch
    assert store.unfinished() == [batch]
    first = store.claim(batch.id, "a", 2, now=NOW, until=NOW + LEASE)
    assert [claim.request for claim in first] == requests(3)[:2]
    second = store.claim(batch.id, "b", 2, now=NOW, until=NOW + LEASE)
    assert [claim.position for claim in second] == [2]
    assert len(store.finish(batch.id, "a", [answer(claim) for claim in first])) == 2
    assert not store.settle(batch.id, NOW).is_done
    refused = Answer(2, "errored", '{"error": 1}', entry(second[0], "errored"), secs=0.5)
    assert store.finish(batch.id, "b", [refused]) == [refused]
    assert store.finish(batch.id, "b", [refused]) == []
    assert store.settle(batch.id, NOW).is_done
    lines = store.results(batch.id, -1, 2)
    assert [(line.custom_id, line.outcome) for line in lines] == [
        ("request-0", "succeeded"),
        ("request-1", "succeeded"),
    ]
    assert [line.result for line in store.results(batch.id, 1, 2)] == ['{"error": 1}']
    assert store.blobs() == {batch.input_blob}
    assert store.end(batch.id, "results", NOW)
    assert not store.end(batch.id, "other results", NOW)
    assert store.blobs() == {"results"}
    ended = store.batch(batch.id, "wrkspc_1")
    assert (ended.status, ended.counts) == ("ended", BatchCounts(0, succeeded=2, errored=1))
    assert store.unfinished() == []
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(batch_requests)).scalar() == 0
    assert store.delete(batch.id, "wrkspc_1") == "results"
    with pytest.raises(NotFound, match=rf"Message Batch {batch.id} not found\."):
        store.batch(batch.id, "wrkspc_1")


def test_a_dead_runner_s_claims_come_back(store: BatchStore) -> None:
    batch = a_batch(2)
    store.add(batch, requests(2))
    claims = store.claim(batch.id, "dead", 2, now=NOW, until=NOW + LEASE)
    assert store.claim(batch.id, "b", 2, now=NOW, until=NOW + LEASE) == []
    store.renew("dead", NOW + 2 * LEASE)
    assert store.claim(batch.id, "b", 2, now=NOW + LEASE, until=NOW + 2 * LEASE) == []
    later = NOW + 2 * LEASE
    assert store.claim(batch.id, "b", 2, now=later, until=later + LEASE) == claims
    assert store.finish(batch.id, "dead", [answer(claims[0])]) == []
    store.give_back("dead", claims)
    assert store.finish(batch.id, "b", [answer(claims[0])]) == [answer(claims[0])]
    store.give_back("b", claims)
    assert store.claim(batch.id, "c", 2, now=later, until=later + LEASE) == claims[1:]


def test_canceling_leaves_what_runs(store: BatchStore) -> None:
    batch = a_batch(3)
    store.add(batch, requests(3))
    claims = store.claim(batch.id, "a", 1, now=NOW, until=NOW + LEASE)
    assert store.cancel(batch.id, "wrkspc_1", NOW).status == "canceling"
    assert store.cancel(batch.id, "wrkspc_1", NOW + LEASE).cancel_initiated_at == NOW
    assert store.claim(batch.id, "b", 1, now=NOW, until=NOW + LEASE) == []
    assert store.settle(batch.id, NOW) == Settlement(False, "canceled", 2)
    assert store.settle(batch.id, NOW) == Settlement(False, "canceled", 0)
    assert store.batch(batch.id, "wrkspc_1").counts == BatchCounts(1, canceled=2)
    store.finish(batch.id, "a", [answer(claims[0])])
    assert store.settle(batch.id, NOW).is_done
    assert [line.outcome for line in store.results(batch.id, -1, 9)] == ["succeeded", "canceled", "canceled"]


def test_a_batch_expires(store: BatchStore) -> None:
    batch = a_batch(2)
    store.add(batch, requests(2))
    assert not store.settle(batch.id, NOW + DAY - LEASE).is_done
    assert store.claim(batch.id, "a", 2, now=NOW + DAY, until=NOW + 2 * DAY) == []
    assert store.settle(batch.id, NOW + DAY) == Settlement(True, "expired", 2)
    assert store.batch(batch.id, "wrkspc_1").counts == BatchCounts(0, expired=2)


def test_results_are_kept_for_a_while(store: BatchStore) -> None:
    old, young, running = a_batch(0), a_batch(0, created_at=NOW + DAY), a_batch(0)
    for batch in (old, young, running):
        store.add(batch, [])
    for batch in (old, young):
        store.end(batch.id, f"{batch.id}.out", NOW)
    assert store.archive(NOW + LEASE, NOW + DAY) == [f"{old.id}.out"]
    assert store.archive(NOW + LEASE, NOW + DAY) == []
    assert store.batch(old.id, "wrkspc_1").archived_at == NOW + DAY
    assert store.delete(old.id, "wrkspc_1") is None


def test_pages(store: BatchStore) -> None:
    made = [a_batch(0, created_at=NOW + LEASE * number) for number in range(5)]
    for batch in [*made, a_batch(0, workspace="wrkspc_2")]:
        store.add(batch, [])
    newest = made[::-1]
    assert store.page("wrkspc_1", 5) == (newest, False)
    assert store.page("wrkspc_1", 2) == (newest[:2], True)
    assert store.page("wrkspc_1", 2, after_id=newest[1].id) == (newest[2:4], True)
    assert store.page("wrkspc_1", 2, after_id=newest[3].id) == (newest[4:], False)
    assert store.page("wrkspc_1", 2, before_id=newest[3].id) == (newest[1:3], True)
    assert store.page("wrkspc_1", 2, before_id=newest[2].id) == (newest[:2], False)
    assert store.page("wrkspc_3", 2) == ([], False)
    assert len(store.page(None, 9)[0]) == 6
    for field in ("after_id", "before_id"):
        with pytest.raises(InvalidRequest, match=f"{field}: Message Batch msgbatch_x not found"):
            store.page("wrkspc_1", 2, **{field: "msgbatch_x"})
        with pytest.raises(InvalidRequest, match=field):
            store.page("wrkspc_2", 2, **{field: made[0].id})


def test_of_another_workspace_there_is_nothing(store: BatchStore) -> None:
    batch = a_batch(1)
    store.add(batch, requests(1))
    for verb in (store.batch, store.delete):
        with pytest.raises(NotFound):
            verb(batch.id, "wrkspc_2")
    with pytest.raises(NotFound):
        store.cancel(batch.id, "wrkspc_2", NOW)
    assert store.batch(batch.id, "wrkspc_1") == batch


def test_a_running_batch_is_not_deleted(store: BatchStore) -> None:
    batch = a_batch(1)
    store.add(batch, requests(1))
    with pytest.raises(InvalidRequest, match=r"^In progress batches cannot be deleted\. Consider canceling"):
        store.delete(batch.id, "wrkspc_1")


@pytest.mark.parametrize("owner", ["wrkspc_1", None])
def test_the_queue_s_quota_holds_whoever_comes_at_once(
    store: BatchStore, database: Database, owner: str | None
) -> None:
    LimitStore(database).put(LimitRule(owner, None, queued_batch_requests=50))
    refusals: list[RateLimited] = []

    def create() -> None:
        try:
            store.add(a_batch(8), requests(8))
        except RateLimited as refusal:
            refusals.append(refusal)

    threads = [Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.unfinished()
    assert sum(batch.counts.processing for batch in kept) == 48
    assert len(refusals) == 20 - len(kept)
    assert refusals[0].retry_after_secs > 0
    whose = "workspace" if owner else "organization"
    assert f"your {whose}'s limit of 50 batch requests in the processing queue" in str(refusals[0])
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(batch_requests)).scalar() == 48


def test_what_is_done_makes_room_in_the_queue_and_others_have_their_own(
    store: BatchStore, database: Database
) -> None:
    LimitStore(database).put(LimitRule("wrkspc_1", None, queued_batch_requests=3))
    LimitStore(database).put(LimitRule("wrkspc_1", "haiku", requests_per_minute=1))
    first = a_batch(3)
    store.add(first, requests(3))
    store.add(a_batch(9, workspace="wrkspc_2"), requests(9))
    with pytest.raises(RateLimited):
        store.add(a_batch(2), requests(2))
    claims = store.claim(first.id, "a", 2, now=NOW, until=NOW + LEASE)
    store.finish(first.id, "a", [answer(claim) for claim in claims])
    store.add(a_batch(2), requests(2))


class Runners(RuleBasedStateMachine):
    """Three runners at two batches: they claim, answer, stall, die and come back, and batches are canceled and expire.

    `answers` is what a runner would say, whether or not its claim still holds."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.store = BatchStore(self.database, LedgerStore(self.database))
        self.now = NOW
        self.held: dict[str, list[Claim]] = {name: [] for name in "abc"}
        self.names = {name: f"{name}-{next(_numbers)}" for name in "abc"}
        self.made = [a_batch(7), a_batch(4)]
        for batch in self.made:
            self.store.add(batch, requests(batch.counts.total))

    @rule(name=st.sampled_from("abc"), batch=st.integers(0, 1), most=st.integers(1, 4))
    def claim(self, name: str, batch: int, most: int) -> None:
        claims = self.store.claim(
            self.made[batch].id, self.names[name], most, now=self.now, until=self.now + LEASE
        )
        self.held[name] += claims

    @rule(name=st.sampled_from("abc"), number=st.integers(1, 4))
    def finish(self, name: str, number: int) -> None:
        for batch in self.made:
            done = [claim for claim in self.held[name][:number] if claim.batch_id == batch.id]
            answers = [answer(claim) for claim in done]
            if self.store.finish(batch.id, self.names[name], answers) == answers:
                self.held[name] = [claim for claim in self.held[name] if claim not in done]

    @rule(name=st.sampled_from("abc"))
    def die(self, name: str) -> None:
        self.held[name] = []
        self.names[name] = f"{name}-{next(_numbers)}"

    @rule(name=st.sampled_from("abc"))
    def give_back(self, name: str) -> None:
        self.store.give_back(self.names[name], self.held[name])
        self.held[name] = []

    @rule(name=st.sampled_from("abc"))
    def renew(self, name: str) -> None:
        self.store.renew(self.names[name], self.now + LEASE)

    @rule(secs=st.sampled_from([1, 9, 10, 11, 80_000]))
    def wait(self, secs: int) -> None:
        self.now += timedelta(seconds=secs)

    @rule(batch=st.integers(0, 1))
    def cancel(self, batch: int) -> None:
        self.store.cancel(self.made[batch].id, "wrkspc_1", self.now)

    @rule(batch=st.integers(0, 1))
    def settle(self, batch: int) -> None:
        self.store.settle(self.made[batch].id, self.now)

    @invariant()
    def counts_are_true(self) -> None:
        for batch in self.made:
            counts = self.store.batch(batch.id, "wrkspc_1").counts
            assert counts.total == batch.counts.total
            lines = self.store.results(batch.id, -1, 99)
            outcomes = Counter(line.outcome for line in lines)
            assert outcomes == {name: getattr(counts, name) for name in outcomes}
            assert counts.processing == batch.counts.total - len(lines)

    def teardown(self) -> None:
        """Somebody who does not die ends it all: every request has one result and one row, none has two."""
        self.now += LEASE
        for batch in self.made:
            while not self.store.settle(batch.id, self.now).is_done:
                claims = self.store.claim(batch.id, "last", 3, now=self.now, until=self.now + LEASE)
                assert claims
                answers = [answer(claim) for claim in claims]
                assert self.store.finish(batch.id, "last", answers) == answers
            lines = self.store.results(batch.id, -1, 99)
            assert [line.position for line in lines] == list(range(batch.counts.total))
            with self.database.read() as connection:
                booked = connection.execute(
                    select(ledger.c.batch_position, ledger.c.outcome, ledger.c.input_tokens)
                    .where(ledger.c.batch_id == batch.id)
                    .order_by(ledger.c.batch_position)
                )
                assert [tuple(row) for row in booked] == [
                    (line.position, line.outcome, line.position + 1 if line.outcome == "succeeded" else 0)
                    for line in lines
                ]


def test_nothing_is_lost_and_nothing_done_twice(database: Database) -> None:
    Runners.database = database
    quick = settings(
        max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Runners, settings=quick)
    query = UsageQuery(NOW.replace(hour=0), NOW.replace(hour=0) + 99 * DAY, group_by=("model", "tier"))
    store = LedgerStore(database)
    sums = store.usage(query)
    store.rebuild_roll_ups()
    assert store.usage(query) == sums
    with database.read() as connection:
        rows = connection.execute(select(func.count(), func.sum(ledger.c.input_tokens))).one()
    assert (sum(each.num_requests for each in sums), sum(each.tokens["input"] for each in sums)) == tuple(
        rows
    )


def test_two_runners_at_once_share_a_batch(store: BatchStore) -> None:
    batch = a_batch(200)
    store.add(batch, requests(200))
    until = NOW + LEASE
    kept: Counter[str] = Counter()

    def work(runner: str) -> None:
        while claims := store.claim(batch.id, runner, 7, now=NOW, until=until):
            kept[runner] += len(store.finish(batch.id, runner, [answer(claim) for claim in claims]))

    threads = [Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(kept.values()) == 200
    done = BatchCounts(0, succeeded=150, errored=50)
    assert replace(batch, counts=done) == store.batch(batch.id, "wrkspc_1")


def test_canceling_a_large_batch_books_it_in_few_statements(store: BatchStore, database: Database) -> None:
    batch = a_batch(3_000)
    store.add(batch, requests(3_000))
    store.cancel(batch.id, "wrkspc_1", NOW)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    assert store.settle(batch.id, NOW) == Settlement(True, "canceled", 3_000)
    assert len(statements) < 10
    (total,) = LedgerStore(database).usage(UsageQuery(NOW.replace(hour=0), NOW + DAY, group_by=("model",)))
    assert (total.num_requests, total.group, sum(total.tokens.values())) == (3_000, {"model": None}, 0)
    with database.read() as connection:
        booked = connection.execute(
            select(ledger.c.workspace_id, ledger.c.key_id, ledger.c.outcome, func.count()).group_by(
                ledger.c.workspace_id, ledger.c.key_id, ledger.c.outcome
            )
        )
        assert [tuple(row) for row in booked] == [("wrkspc_1", "apikey_1", "canceled", 3_000)]
