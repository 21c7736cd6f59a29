"""Strict reading of TOML: every key is asked for by name and type, and whatever is left over is refused.

Each complaint names the file and the dotted key, so that the person who wrote the file knows where to look.
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from hokku.protocol.errors import BadSetting

T = TypeVar("T")
_MAX_SECS = 86_400
_TYPE_NAMES = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    list: "an array",
}


class TomlTable:
    """One table of a TOML file, emptied key by key; `finish` refuses what nobody asked for."""

    def __init__(self, values: dict[str, Any], file: str, prefix: str = "") -> None:
        self._values = dict(values)
        self._file = file
        self._prefix = prefix

    @classmethod
    def read(cls, file: Path) -> TomlTable:
        """The top table of a file. Raises `BadSetting` when it cannot be read or is not TOML."""
        try:
            return cls(tomllib.loads(file.read_text("utf-8")), str(file))
        except OSError as cause:
            raise BadSetting(f"cannot be read: {cause.strerror}", place=str(file)) from cause
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
            raise BadSetting(f"is not TOML: {cause}", place=str(file)) from cause

    @property
    def place(self) -> str:
        """Where the table stands: the file, and within it the dotted key."""
        return f"{self._file}: {self._prefix}".rstrip(":. ")

    def place_of(self, key: str) -> str:
        """Where `key` stands."""
        return f"{self._file}: {self._prefix}{key}".removesuffix(".")

    def complain(self, key: str, message: str, way_out: str | None = None) -> BadSetting:
        """The error for `key`, to be raised."""
        return BadSetting(message, place=self.place_of(key), way_out=way_out)

    def has(self, key: str) -> bool:
        """Whether the key is there and has not been taken yet."""
        return key in self._values

    def require(self, key: str, kind: type[T]) -> T:
        """The value of a key that must be there."""
        if key not in self._values:
            raise self.complain(key, "is missing")
        return self._checked(key, kind)

    def optional(self, key: str, kind: type[T], default: T) -> T:
        """The value of a key that may be absent."""
        return self._checked(key, kind) if key in self._values else default

    def positive(self, key: str) -> int:
        """A whole number above zero that must be there."""
        value = self.require(key, int)
        if value < 1:
            raise self.complain(key, f"must be above 0, not {value}")
        return value

    def not_negative(self, key: str) -> int:
        """A whole number of zero or more that must be there."""
        value = self.require(key, int)
        if value < 0:
            raise self.complain(key, f"must not be negative, not {value}")
        return value

    def share(self, key: str, default: float) -> float:
        """A number from 0 to 1 that may be absent."""
        value = self._values.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.complain(key, f"must be a number from 0 to 1, not {value!r}")
        return float(value)

    def secs(self, key: str, default: float) -> float:
        """A number of seconds above zero that may be absent."""
        value = self._values.pop(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_SECS:
            raise self.complain(key, f"must be a number of seconds above 0, up to {_MAX_SECS}, not {value!r}")
        return float(value)

    def moment(self, key: str) -> datetime | None:
        """A point in time with its offset, in UTC; None when absent."""
        if key not in self._values:
            return None
        value = self._checked(key, datetime)
        if value.tzinfo is None:
            raise self.complain(key, "needs a time zone, for example 2024-10-22T00:00:00Z")
        return value.astimezone(UTC)

    def strings(self, key: str) -> tuple[str, ...]:
        """An array of strings; empty when absent."""
        values = self.optional(key, list, [])
        for number, value in enumerate(values):
            if not isinstance(value, str):
                raise self.complain(f"{key}[{number}]", f"must be a string, not {value!r}")
        return tuple(values)

    def take_text(self, key: str) -> str:
        """A scalar, or an array of strings joined by commas, as one would type it at a terminal."""
        value = self._values[key]
        if isinstance(value, list):
            return ",".join(self.strings(key))
        if not isinstance(value, str | int | float):
            raise self.complain(key, f"must be a plain value, not {value!r}")
        del self._values[key]
        return str(value).lower() if isinstance(value, bool) else str(value)

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words."""
        value = self.optional(key, str, default)
        if value not in choices:
            raise self.complain(key, f"must be one of {', '.join(choices)}, not {value!r}")
        return value

    def sha256(self, key: str) -> str:
        """A SHA-256 in lower-case hexadecimal that must be there."""
        value = self.require(key, str)
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise self.complain(key, "must be 64 lower-case hexadecimal digits")
        return value

    def table(self, key: str) -> TomlTable:
        """A table within this one that must be there."""
        return TomlTable(self.require(key, dict), self._file, f"{self._prefix}{key}.")

    def tables(self, key: str) -> list[TomlTable]:
        """An array of tables; empty when absent."""
        values = self.optional(key, list, [])
        for number, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.complain(f"{key}[{number}]", f"must be a table, not {value!r}")
        return [
            TomlTable(value, self._file, f"{self._prefix}{key}[{number}].")
            for number, value in enumerate(values)
        ]

    def keys(self) -> list[str]:
        """Keys not taken yet."""
        return list(self._values)

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._values:
            raise self.complain(key, "is not a known key")

    def _checked(self, key: str, kind: type[T]) -> T:
        value = self._values.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.complain(key, f"must be {_TYPE_NAMES.get(kind, 'a date and time')}, not {value!r}")
        return value
