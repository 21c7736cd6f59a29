"""A secret that is made once and kept in the data directory, readable by its owner alone, as an SSH key would be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hokku.protocol.errors import BadSetting


class SecretFile:
    """One line of text in a file of its own."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def stored(self) -> str | None:
        """The secret, if it has been made. Raises `BadSetting` where the file cannot be read."""
        try:
            return self._file.read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None
        except OSError as cause:
            raise BadSetting(f"cannot be read: {cause.strerror}", place=str(self._file)) from cause

    def stored_or_made(self, make: Callable[[], str]) -> str:
        """The secret, made now if there is none. Raises `BadSetting` where the directory cannot be written."""
        known = self.stored()
        if known is not None:
            return known
        secret = make()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # O_EXCL: of two processes that start at once, one makes the secret and the other reads it.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as cause:
            return self._made_by_another(cause)
        except OSError as cause:
            raise BadSetting(
                f"cannot keep a secret there: {cause.strerror}", place=str(self._file.parent)
            ) from cause
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(secret + "\n")
        return secret

    def _made_by_another(self, cause: Exception) -> str:
        secret = self.stored()
        if secret is None:
            raise BadSetting(
                "is empty", place=str(self._file), way_out="delete it and start again"
            ) from cause
        return secret
