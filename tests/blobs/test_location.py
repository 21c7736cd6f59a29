"""Where blobs are: the setting's text, and stores that cannot be reached."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hokku.blobs.location import open_blobs
from hokku.protocol.errors import BadSetting, StorageUnavailable
from tests.blobs.s3_server import VARIABLES


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("s3://", "the name of a bucket"),
        ("s3:///prefix", "the name of a bucket"),
        ("s3://key:secret@bucket", "the name of a bucket"),
        ("s3://bucket?endpoint=minio:9000", "endpoint must be a URL"),
        ("s3://bucket?regoin=eu", "does not know 'regoin'"),
    ],
)
def test_a_bad_location_is_refused(location: str, problem: str) -> None:
    with pytest.raises(BadSetting, match=problem) as caught:
        open_blobs(location, "files")
    assert caught.value.place == "blobs"
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hokku.blobs.location.find_spec", lambda name: None)
    with pytest.raises(BadSetting, match=r"pip install 'hokku-llm\[s3\]'"):
        open_blobs("s3://bucket", "files")
    assert importlib.util.find_spec("obstore") is not None


def test_a_path_is_a_directory(tmp_path: Path) -> None:
    with open_blobs(str(tmp_path), "files").writer() as writer:
        writer.keep()
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_a_bucket_that_is_not_there(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    store = open_blobs(f"s3://another?endpoint={s3_url}", "files")
    with store.writer() as writer:
        writer.write(b"x")
        with pytest.raises(StorageUnavailable) as caught:
            writer.keep()
    assert "another" not in str(caught.value)
    assert "did not answer" in caplog.text
    with pytest.raises(StorageUnavailable):
        list(store.entries())
