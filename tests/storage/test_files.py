"""Uploaded files, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hokku.protocol.errors import InvalidRequest
from hokku.protocol.records import UploadedFile
from hokku.storage.database import Database
from hokku.storage.files import FileStore

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
PLENTY = 1 << 40
FILE = UploadedFile("file_1", "wrkspc_1", "a.pdf", "application/pdf", 10, "0" * 64, "blob_1", NOW)


def another(number: int, **changes: object) -> UploadedFile:
    return replace(FILE, id=f"file_{number}", blob=f"blob_{number}", **changes)  # type: ignore[arg-type]


def test_a_file_is_its_workspaces_own(database: Database) -> None:
    store = FileStore(database)
    file = replace(FILE, expires_at=NOW + timedelta(hours=1), num_bytes=500_000_000_000)
    store.add(file, PLENTY)
    assert store.file("file_1", "wrkspc_1") == file
    assert store.file("file_1", "wrkspc_2") is None
    assert store.some(["file_1"], "wrkspc_2") == []
    assert store.page("wrkspc_2", 10) == ([], False)
    assert store.remove("file_1", "wrkspc_2") is None
    assert store.remove("file_1", "wrkspc_1") == file
    assert store.remove("file_1", "wrkspc_1") is None


def test_pages_run_from_the_newest_to_the_oldest_and_back(database: Database) -> None:
    store = FileStore(database)
    # Two of each moment, so that the id decides too.
    every = [another(number, created_at=NOW + timedelta(seconds=number // 2)) for number in range(8)]
    for file in every:
        store.add(file, PLENTY)
    newest_first = every[::-1]
    pages, place = [], None
    while True:
        page, has_more = store.page("wrkspc_1", 3, after=place)
        pages.append(page)
        if not has_more:
            break
        place = (page[-1].created_at, page[-1].id)
    assert pages == [newest_first[:3], newest_first[3:6], newest_first[6:]]
    last = newest_first[-1]
    page, has_more = store.page("wrkspc_1", 3, before=(last.created_at, last.id))
    assert (page, has_more) == (newest_first[4:7], True)
    first = newest_first[0]
    assert store.page("wrkspc_1", 3, before=(first.created_at, first.id)) == ([], False)
    assert store.some(["file_3", "file_6", "file_99"], "wrkspc_1") == [every[6], every[3]]


def test_all_files_together_have_a_limit(database: Database) -> None:
    store = FileStore(database)
    store.add(FILE, 20)
    store.add(another(2), 20)
    assert store.total_bytes() == 20
    with pytest.raises(InvalidRequest, match="may have 20 bytes") as caught:
        store.add(another(3, num_bytes=1), 20)
    assert caught.value.error_code == "storage_quota_exceeded"
    store.remove("file_2", "wrkspc_1")
    store.add(another(3), 20)


def test_uploads_at_once_keep_the_limit(database: Database) -> None:
    store = FileStore(database)

    def add(number: int) -> bool:
        try:
            store.add(another(number), 50)
        except InvalidRequest:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(12))) == 5
    assert store.total_bytes() == 50


def test_expired_files_lose_their_bytes_first_and_then_their_rows(database: Database) -> None:
    store = FileStore(database)
    hour = timedelta(hours=1)
    store.add(replace(FILE, expires_at=NOW + hour), PLENTY)
    store.add(another(2), PLENTY)
    assert store.expire(NOW) == []
    assert store.known_blobs(["blob_1", "blob_2", "blob_3"]) == {"blob_1", "blob_2"}
    assert store.expire(NOW + hour) == ["blob_1"]
    assert store.expire(NOW + hour) == []
    assert store.known_blobs(["blob_1", "blob_2"]) == {"blob_2"}
    assert store.total_bytes() == 10
    assert store.file("file_1", "wrkspc_1") == replace(FILE, expires_at=NOW + hour, blob=None)
    store.forget(NOW + hour)
    assert store.file("file_1", "wrkspc_1") is not None
    store.forget(NOW + 2 * hour)
    assert store.file("file_1", "wrkspc_1") is None
    assert store.file("file_2", "wrkspc_1") == another(2)


def test_many_blobs_are_asked_for_at_once(database: Database) -> None:
    store = FileStore(database)
    store.add(FILE, PLENTY)
    assert store.known_blobs([f"blob_{number}" for number in range(2_000)]) == {"blob_1"}
