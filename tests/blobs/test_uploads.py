"""Uploads on both kinds of store: from the first byte until they are deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hokku.blobs.store import BlobStore
from hokku.protocol.errors import InvalidRequest, RequestTooLarge
from hokku.service.files import Files, FilesConfig
from hokku.service.keys import Identity
from hokku.storage.storage import Storage

CALLER = Identity("wrkspc_1")


async def test_an_upload(store: BlobStore, tmp_path: Path) -> None:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    files = Files(storage, store, FilesConfig(max_file_bytes=20, max_total_bytes=30))
    upload = files.upload(CALLER)
    for piece in (b"one ", b"two ", b"three"):
        upload.write(piece)
    file = upload.keep("a.txt", "text/plain", timedelta(hours=1))
    upload.discard()
    assert await files.find(file.id, "wrkspc_1") == file
    assert await files.find(file.id, "wrkspc_2") is None
    assert await files.content(file) == b"one two three"

    large = files.upload(CALLER)
    with pytest.raises(RequestTooLarge):
        large.write(bytes(21))
    large.discard()
    too_much = files.upload(CALLER)
    too_much.write(bytes(20))
    with pytest.raises(InvalidRequest, match="All files together"):
        too_much.keep("b", "text/plain", None)
    assert [entry.name for entry in store.entries()] == [file.blob]

    files.tidy(datetime.now(UTC) + timedelta(hours=2))
    assert list(store.entries()) == []
    assert await files.content(file) is None
    files.close()
    storage.close()
