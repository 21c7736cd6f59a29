"""The key of the first start: made once, kept to its owner, and never guessed at when something is wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from hokku.protocol.errors import BadSetting
from hokku.service.first_key import first_key, stored_key


def test_it_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    assert stored_key(folder) is None
    key = first_key(folder)
    assert key.startswith("sk-hokku-")
    assert len(key) > 40
    assert first_key(folder) == stored_key(folder) == key
    assert first_key(tmp_path / "other") != key


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first_key(tmp_path)
    assert stat.S_IMODE((tmp_path / "api-key").stat().st_mode) == 0o600


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("\n", "utf-8")
    with pytest.raises(BadSetting, match="api-key: is empty"):
        first_key(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(BadSetting, match="file"):
        first_key(tmp_path / "file" / "data")
