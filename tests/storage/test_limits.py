"""Rules and what has been spent, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hokku.protocol.records import LedgerEntry, LimitRule
from hokku.storage.database import Database
from hokku.storage.ledger import LedgerStore
from hokku.storage.limits import LimitStore

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_rule_takes_the_place_of_the_one_before(database: Database) -> None:
    store = LimitStore(database)
    rule = LimitRule("wrkspc_1", None, 1, 2, 3, 4, 5, 6, 7, 8)
    everybodys = LimitRule(None, "haiku", requests_per_minute=7)
    store.put(replace(rule, requests_per_minute=9))
    store.put(rule)
    store.put(everybodys)
    assert store.rules() == [everybodys, rule]
    store.put(LimitRule("wrkspc_1", None))
    assert store.rules() == [everybodys]


def test_what_was_spent(database: Database) -> None:
    entry = LedgerEntry(
        NOW, "req", "wrkspc_1", None, "haiku", "standard", "succeeded", {}, {"input": 5, "cache_read": 1}
    )
    LedgerStore(database).append(
        [entry, replace(entry, workspace_id="wrkspc_2"), replace(entry, at=NOW - timedelta(days=30))]
    )
    store = LimitStore(database)
    start = NOW.replace(day=1, hour=0)
    assert store.spent("wrkspc_1", start) == 6
    assert store.spent(None, start) == 12
    assert store.spent("wrkspc_3", start) == 0
