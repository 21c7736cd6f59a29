"""The key of the first start: made once when nobody configured one, so that a server is never open by accident.

It lies in the data directory, readable by its owner alone, as an SSH key would; `hokku chat --server` and the
printed snippet read it from there. A configured `api_key` takes its place.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from hokku.protocol.errors import BadSetting


def first_key(data_dir: Path) -> str:
    """The stored key, made now if there is none. Raises `BadSetting` where the directory cannot be written."""
    known = stored_key(data_dir)
    if known is not None:
        return known
    key = f"sk-hokku-{secrets.token_urlsafe(32)}"
    file = _file(data_dir)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # O_EXCL: of two servers that start at once, one makes the key and the other reads it.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as cause:
        return _made_by_another(data_dir, cause)
    except OSError as cause:
        raise BadSetting(f"cannot keep a key there: {cause.strerror}", place=str(data_dir)) from cause
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(key + "\n")
    return key


def _made_by_another(data_dir: Path, cause: Exception) -> str:
    key = stored_key(data_dir)
    if key is None:
        raise BadSetting(
            "is empty", place=str(_file(data_dir)), way_out="delete it and start again"
        ) from cause
    return key


def stored_key(data_dir: Path) -> str | None:
    """The key of an earlier first start, if there is one."""
    try:
        return _file(data_dir).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise BadSetting(f"cannot be read: {cause.strerror}", place=str(_file(data_dir))) from cause


def _file(data_dir: Path) -> Path:
    return data_dir / "api-key"
