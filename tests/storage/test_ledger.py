"""The ledger's sums equal a recomputation from its entries, on both databases."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from hokku.protocol.records import (
    BUCKET_SECS,
    TOKEN_KINDS,
    BucketWidth,
    Dimension,
    LedgerEntry,
    TokenKind,
    UsageQuery,
    UsageSum,
)
from hokku.storage.database import Database
from hokku.storage.ledger import LedgerStore
from hokku.storage.schema import ledger, usage_days, usage_hours

START = datetime(2026, 11, 20, tzinfo=UTC)
END = START + timedelta(days=3)
DIMENSIONS: tuple[Dimension, ...] = ("key_id", "workspace_id", "model", "tier")

amounts = st.fixed_dictionaries(dict.fromkeys(TOKEN_KINDS, st.integers(0, 10**12)))
entries = st.builds(
    LedgerEntry,
    at=st.datetimes(START.replace(tzinfo=None), END.replace(tzinfo=None), timezones=st.just(UTC)),
    request_id=st.just("req_1"),
    workspace_id=st.sampled_from(["wrkspc_1", "wrkspc_2"]),
    key_id=st.sampled_from([None, "apikey_1", "apikey_2"]),
    model=st.sampled_from(["a", "b", ""]),
    tier=st.sampled_from(["standard", "batch"]),
    outcome=st.sampled_from(["succeeded", "canceled", "errored", "expired"]),
    tokens=amounts,
    micro_cents=amounts,
    batch_id=st.sampled_from([None, "msgbatch_1"]),
    batch_position=st.integers(0, 3),
).map(lambda entry: entry if entry.batch_id else replace(entry, batch_position=None))
queries = st.builds(
    UsageQuery,
    starting_at=st.integers(-1, 2).map(lambda days: START + timedelta(days=days)),
    ending_at=st.integers(1, 4).map(lambda days: START + timedelta(days=days)),
    width=st.sampled_from(["1m", "1h", "1d"]),
    group_by=st.sets(st.sampled_from(DIMENSIONS)).map(tuple),
    only=st.fixed_dictionaries(
        {},
        optional={
            "key_id": st.sets(st.sampled_from([None, "apikey_1", "apikey_3"]), min_size=1).map(tuple),
            "tier": st.just(("batch",)),
        },
    ),
)


def summed_by_hand(booked: list[LedgerEntry], query: UsageQuery) -> dict[Any, list[int]]:
    sums: dict[Any, list[int]] = {}
    for entry in booked:
        is_asked = all(getattr(entry, name) in values for name, values in query.only.items())
        start = start_of_bucket(entry.at, query.width)
        if not is_asked or not query.starting_at <= start < query.ending_at:
            continue
        group = (start, *(getattr(entry, name) or None for name in query.group_by))
        total = sums.setdefault(group, [0] * 11)
        values = [
            1,
            *(entry.tokens[kind] for kind in TOKEN_KINDS),
            *(entry.micro_cents[kind] for kind in TOKEN_KINDS),
        ]
        sums[group] = [a + b for a, b in zip(total, values, strict=True)]
    return sums


def start_of_bucket(at: datetime, width: BucketWidth) -> datetime:
    micros = (at - START) // timedelta(microseconds=1)
    return START + timedelta(microseconds=micros - micros % (BUCKET_SECS[width] * 1_000_000))


def as_numbers(sums: list[UsageSum]) -> dict[Any, list[int]]:
    return {
        (each.starting_at, *each.group.values()): [
            each.num_requests,
            *(each.tokens[kind] for kind in TOKEN_KINDS),
            *(each.micro_cents[kind] for kind in TOKEN_KINDS),
        ]
        for each in sums
    }


def without_repeats(parts: list[list[LedgerEntry]]) -> list[LedgerEntry]:
    """What is to be booked: of a batch's request the first entry only."""
    seen: Counter[Any] = Counter()
    booked = []
    for part in parts:
        # Within one call the entries that belong to no batch are booked first; the order does not matter to sums.
        for entry in part:
            request = (entry.batch_id, entry.batch_position)
            seen[request] += 1
            if entry.batch_id is None or seen[request] == 1:
                booked.append(entry)
    return booked


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.lists(entries, max_size=6), max_size=4), query=queries)
def test_sums_equal_a_recomputation(
    database: Database, parts: list[list[LedgerEntry]], query: UsageQuery
) -> None:
    store = LedgerStore(database)
    with database.write() as connection:
        for table in (ledger, usage_hours, usage_days):
            connection.execute(table.delete())
    for part in parts:
        store.append(part)
    by_hand = summed_by_hand(without_repeats(parts), query)
    assert as_numbers(store.usage(query)) == by_hand
    store.rebuild_roll_ups()
    assert as_numbers(store.usage(query)) == by_hand


def entry(number: int, **changes: Any) -> LedgerEntry:
    tokens = dict.fromkeys(TOKEN_KINDS, number)
    base = LedgerEntry(
        START,
        f"req_{number}",
        "wrkspc_1",
        None,
        "a",
        "standard",
        "succeeded",
        tokens,
        tokens,
    )
    return replace(base, **changes)


def test_a_batch_s_request_is_booked_once(database: Database) -> None:
    store = LedgerStore(database)
    booked = entry(1, batch_id="msgbatch_1", batch_position=7)
    store.append([booked])
    store.append(
        [entry(2, batch_id="msgbatch_1", batch_position=7), entry(4, batch_id="msgbatch_1", batch_position=8)]
    )
    (total,) = store.usage(UsageQuery(START, END))
    assert total.num_requests == 2
    assert total.tokens["input"] == 5


def test_writers_that_add_to_the_same_sums_lose_nothing(database: Database) -> None:
    store = LedgerStore(database)

    def book(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(10):
            models = [choice.choice("abcdef") for _ in range(6)]
            store.append([entry(1, model=model) for model in models])

    threads = [threading.Thread(target=book, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (total,) = store.usage(UsageQuery(START, END))
    assert total.num_requests == 360
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(ledger)).scalar_one() == 360


def test_nothing_booked_is_no_sums(database: Database) -> None:
    store = LedgerStore(database)
    store.append([])
    assert store.usage(UsageQuery(START, END)) == []
    with pytest.raises(StopIteration):
        next(iter(store.usage(UsageQuery(START, END, "1m"))))


def test_what_was_kept_without_a_word_is_not_booked_twice(database: Database) -> None:
    store = LedgerStore(database)
    amounts: dict[TokenKind, int] = dict.fromkeys(TOKEN_KINDS, 1)
    made = [
        LedgerEntry(START, f"req_{number}", "wrkspc_1", None, "a", "standard", "succeeded", amounts, amounts)
        for number in range(4)
    ]
    store.append(made[:3])
    store.append_again(made[1:])
    store.append_again(made)
    with database.read() as connection:
        ids = connection.execute(select(ledger.c.request_id).order_by(ledger.c.id)).scalars().all()
        totals = connection.execute(select(usage_days.c.num_requests, usage_days.c.input_tokens)).all()
    assert ids == [entry.request_id for entry in made]
    assert [tuple(total) for total in totals] == [(4, 4)]
