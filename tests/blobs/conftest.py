"""Every test of `test_stores.py` runs on both kinds of store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from hokku.blobs.location import open_blobs
from hokku.blobs.store import BlobStore
from tests.blobs.s3_server import BUCKET, VARIABLES, running_s3


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    with running_s3() as url:
        yield url


@pytest.fixture(params=["directory", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "directory":
        return str(tmp_path / "blobs")
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint={request.getfixturevalue('s3_url')}"


@pytest.fixture
def store(location: str) -> BlobStore:
    return open_blobs(location, "files")
