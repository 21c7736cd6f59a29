"""The key of the first start: made once when nobody configured one, so that a server is never open by accident.

It lies in the data directory, readable by its owner alone; `hokku chat --server` and the printed snippet read it from
there. A configured `api_key` takes its place.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from hokku.service.secret_file import SecretFile


def first_key(data_dir: Path) -> str:
    """The stored key, made now if there is none. Raises `BadSetting` where the directory cannot be written."""
    return _file(data_dir).stored_or_made(lambda: f"sk-hokku-{secrets.token_urlsafe(32)}")


def stored_key(data_dir: Path) -> str | None:
    """The key of an earlier first start, if there is one. Raises `BadSetting`."""
    return _file(data_dir).stored()


def _file(data_dir: Path) -> SecretFile:
    return SecretFile(data_dir / "api-key")
