"""Workspaces and keys, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hokku.protocol.errors import InvalidRequest, NotFound
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, ApiKey, Workspace
from hokku.storage.database import Database
from hokku.storage.keys import KeyStore

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
ONE = Workspace("wrkspc_1", "one", NOW)
KEY = ApiKey("apikey_1", "wrkspc_1", "mine", "user", "sk-hok…abcd", "active", NOW, NOW + timedelta(days=1))
HASH = bytes(range(32))


@pytest.fixture
def store(database: Database) -> KeyStore:
    store = KeyStore(database)
    store.add_workspace(ONE)
    return store


def test_what_was_put_in_comes_out(store: KeyStore) -> None:
    store.add_key(KEY, HASH)
    assert store.find(HASH) == KEY
    assert store.find(bytes(32)) is None
    assert store.all_keys() == [KEY]
    assert {each.id: each.name for each in store.workspaces()} == {
        ONE.id: "one",
        DEFAULT_WORKSPACE_ID: "default",
    }
    assert store.workspace("one") == store.workspace("wrkspc_1") == ONE


def test_a_name_belongs_to_one_workspace(store: KeyStore) -> None:
    with pytest.raises(InvalidRequest, match="name: there is a workspace of that name"):
        store.add_workspace(replace(ONE, id="wrkspc_2"))
    with pytest.raises(NotFound, match="no workspace two"):
        store.workspace("two")


def test_a_key_that_is_closed_is_no_longer_good_and_can_be_opened_again(store: KeyStore) -> None:
    store.add_key(KEY, HASH)
    for status in ("inactive", "active", "archived"):
        store.set_status(KEY.id, status)
        found = store.find(HASH)
        assert found is not None
        assert found.is_good(NOW) == (status == "active")
    with pytest.raises(NotFound, match="no key apikey_1 that could be changed"):
        store.set_status(KEY.id, "active")
    with pytest.raises(NotFound):
        store.set_status("apikey_2", "active")


def test_a_key_expires() -> None:
    assert KEY.is_good(NOW + timedelta(hours=23))
    assert not KEY.is_good(NOW + timedelta(days=1))


def test_an_archived_workspace_takes_its_keys_with_it(store: KeyStore) -> None:
    other = replace(ONE, id="wrkspc_2", name="two")
    store.add_workspace(other)
    store.add_key(KEY, HASH)
    kept = replace(KEY, id="apikey_2", workspace_id="wrkspc_2")
    store.add_key(kept, bytes(32))
    store.archive_workspace(ONE.id, NOW)
    assert store.workspace(ONE.id).archived_at == NOW
    assert [key.status for key in store.all_keys()] == ["archived", "active"]
    with pytest.raises(NotFound, match="no open workspace wrkspc_1"):
        store.add_key(replace(KEY, id="apikey_3"), b"x" * 32)
    with pytest.raises(NotFound):
        store.archive_workspace(ONE.id, NOW)
