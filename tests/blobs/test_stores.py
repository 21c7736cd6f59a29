"""What every store of blobs must do."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from hokku.blobs.location import open_blobs, open_bucket
from hokku.blobs.store import Blob, BlobStore, sweep
from hokku.protocol.errors import NotFound, RequestTooLarge

LATER = datetime.now(UTC) + timedelta(days=1)
LARGE = random.Random(1).randbytes(20 << 20)  # several parts of an upload


def kept(store: BlobStore, *pieces: bytes) -> Blob:
    with store.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.keep()


def read(store: BlobStore, name: str, offset: int = 0, length: int | None = None) -> bytes:
    with store.open(name, offset, length) as pieces:
        return b"".join(pieces)


def names(store: BlobStore) -> list[str]:
    return sorted(entry.name for entry in store.entries())


def test_what_is_written_is_read(store: BlobStore) -> None:
    blob = kept(store, b"one ", b"", b"two")
    assert blob == Blob(blob.name, 7, hashlib.sha256(b"one two").hexdigest())
    assert read(store, blob.name) == b"one two"


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 3, b"012"),
        (4, None, b"456789"),
        (4, 2, b"45"),
        (8, 100, b"89"),
        (10, None, b""),
        (99, 5, b""),
        (3, 0, b""),
    ],
)
def test_a_part_is_read(store: BlobStore, offset: int, length: int | None, expected: bytes) -> None:
    assert read(store, kept(store, b"0123456789").name, offset, length) == expected


def test_an_empty_blob(store: BlobStore) -> None:
    blob = kept(store)
    assert (blob.num_bytes, read(store, blob.name), read(store, blob.name, 1)) == (0, b"", b"")


def test_a_large_blob_comes_in_pieces(store: BlobStore) -> None:
    blob = kept(store, *(LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)))
    assert blob.sha256 == hashlib.sha256(LARGE).hexdigest()
    with store.open(blob.name) as pieces:
        sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == len(LARGE)
    assert max(sizes) <= 4 << 20
    assert read(store, blob.name, len(LARGE) - 5) == LARGE[-5:]


def test_a_reader_may_stop_early(store: BlobStore) -> None:
    blob = kept(store, LARGE)
    with store.open(blob.name) as pieces:
        assert LARGE.startswith(next(pieces))
    store.delete(blob.name)
    assert names(store) == []


@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_what_is_not_kept_is_nowhere(store: BlobStore, size: int) -> None:
    with store.writer() as writer:
        writer.write(LARGE[:size])
    assert names(store) == []
    writer.discard()  # once more does no harm


def test_discarding_what_is_kept_does_no_harm(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(b"good")
        blob = writer.keep()
        writer.discard()
    assert read(store, blob.name) == b"good"


def test_a_blob_over_its_limit_is_refused(store: BlobStore) -> None:
    with store.writer(max_bytes=10) as writer:
        writer.write(b"0123456789")
        with pytest.raises(RequestTooLarge):
            writer.write(b"!")
    assert names(store) == []
    with store.writer(max_bytes=10) as writer:
        writer.write(b"0123456789")
        assert writer.keep().num_bytes == 10


def test_deleting(store: BlobStore) -> None:
    first, second = kept(store, b"1"), kept(store, b"2")
    store.delete(first.name)
    store.delete(first.name)
    assert names(store) == [second.name]
    with pytest.raises(NotFound), store.open(first.name):
        pass


def test_kinds_do_not_see_each_other(store: BlobStore, location: str) -> None:
    blob = kept(store, b"mine")
    other = open_blobs(location, "batches")
    assert names(other) == []
    with pytest.raises(NotFound), other.open(blob.name):
        pass


def test_many_at_once(store: BlobStore) -> None:
    def once(number: int) -> bool:
        content = b"%d" % number * 50_000
        return read(store, kept(store, content[:7], content[7:]).name) == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(24)))
    assert len(names(store)) == 24


def test_a_sweep_removes_what_nothing_names(store: BlobStore) -> None:
    named, orphan = kept(store, b"named"), kept(store, b"orphan")
    asked: list[str] = []

    def known(given: Collection[str]) -> list[str]:
        asked.extend(given)
        return [named.name]

    assert sweep(store, known, before=LATER - timedelta(days=2)) == 0, "what is young may get its row yet"
    assert asked == []
    assert sweep(store, known, before=LATER) == 1
    assert sorted(asked) == sorted([named.name, orphan.name])
    assert names(store) == [named.name]
    assert sweep(store, known, before=LATER) == 0


def test_objects_that_others_name(location: str) -> None:
    bucket = open_bucket(location, "job_buckets")
    for content in (b"first", b"second"):
        with bucket.writer_of("a/b.jsonl") as writer:
            writer.write(content)
            writer.keep()
    with bucket.open("a/b.jsonl") as pieces:
        found = b"".join(pieces)
    for name in ("a", "a/c", "b.jsonl"):
        with pytest.raises(NotFound), bucket.open(name):
            pass
    assert found == b"second"
