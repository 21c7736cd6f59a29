"""What is particular to blobs in a directory."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hokku.blobs.directory import Directory
from hokku.blobs.store import sweep
from hokku.protocol.errors import RequestTooLarge, StorageFull, StorageUnavailable

LATER = datetime.now(UTC) + timedelta(days=1)


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "files"
    with Directory(folder).writer() as writer:
        unfinished = next(folder.iterdir())
        assert unfinished.suffix == ".part"
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600
        blob = writer.keep()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / blob.name).stat().st_mode) == 0o600


def test_nothing_is_made_before_the_first_blob(tmp_path: Path) -> None:
    store = Directory(tmp_path / "files")
    assert list(store.entries()) == []
    store.delete("anything")
    assert not (tmp_path / "files").exists()


def test_a_sweep_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    store = Directory(tmp_path)
    (tmp_path / "0123.part").write_bytes(b"half")
    assert sweep(store, lambda names: [], before=LATER) == 1
    assert list(tmp_path.iterdir()) == []


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with Directory(tmp_path).writer() as writer:
        writer.write(b"x")
        with pytest.raises(StorageFull, match="disk of the file storage is full"):
            writer.keep()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")
def test_a_disk_that_is_always_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk = os.open("/dev/full", os.O_WRONLY)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *_: full_disk)
        writer = Directory(tmp_path).writer()
    with writer, pytest.raises(StorageFull):
        writer.write(b"x")


def test_a_file_in_the_place_of_the_folder_is_named_in_the_log_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "files").write_bytes(b"")
    with pytest.raises(StorageUnavailable) as caught:
        Directory(tmp_path / "files").writer()
    assert str(tmp_path) not in str(caught.value)
    assert str(tmp_path) in caplog.text


def test_the_limit_counts_before_anything_is_written(tmp_path: Path) -> None:
    with Directory(tmp_path).writer(max_bytes=4) as writer:
        with pytest.raises(RequestTooLarge):
            writer.write(b"12345")
        assert next(tmp_path.iterdir()).stat().st_size == 0
