"""Who answers in a model's place, and when: the `[fallback]` table of a manifest, or of `fallbacks.toml`.

A key for another service is never in these files: they name the file or the environment variable that holds it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from hokku.protocol.errors import BadSetting
from hokku.registry.toml_table import TomlTable

# Why another model answers. "rule" is not in a `when` list: rules say for themselves what they are for.
Reason = Literal["overloaded", "too_long", "engine_failed", "loading", "rule"]
REASONS: tuple[Reason, ...] = ("overloaded", "too_long", "engine_failed", "loading")
# Without a `when`. Loading is left out: it happens at every start, and whoever balances load reads /readyz.
USUAL_REASONS: frozenset[Reason] = frozenset({"overloaded", "too_long", "engine_failed"})
Api = Literal["anthropic", "openai"]
APIS: tuple[Api, ...] = ("anthropic", "openai")
OutputLimitKey = Literal["max_tokens", "max_completion_tokens"]
OUTPUT_LIMIT_KEYS: tuple[OutputLimitKey, ...] = ("max_tokens", "max_completion_tokens")

_CONNECT_SECS = 5.0
_READ_SECS = 60.0  # a service that reads a long prompt is silent for a while
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests that another model is to answer. A rule matches when every member that is given does."""

    prompt_tokens_over: int | None = None  # as the model itself counts them
    max_tokens_over: int | None = None
    has_tools: bool | None = None
    has_forced_call: bool | None = None
    has_images: bool | None = None
    has_documents: bool | None = None  # search results too
    is_structured: bool | None = None


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """Another model of this process."""

    model: str  # its id

    def __str__(self) -> str:
        return self.model


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the key of a service is; `place` is where that is said."""

    place: str
    file: Path | None = None
    variable: str | None = None

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """The key. Raises `BadSetting` where there is none; what it says never holds a part of the key."""
        if self.file is not None:
            key, name = _text_of(self.file, self.place), str(self.file)
        else:
            name = self.variable or ""
            key = environ.get(name, "").strip()
        if not key:
            raise BadSetting(f"{name} holds no key", place=self.place, way_out="put the service's key there")
        if not _PRINTABLE.fullmatch(key):
            raise BadSetting(f"{name} holds something else than one key", place=self.place)
        return key


@dataclass(frozen=True, slots=True)
class UpstreamTarget:
    """A model of another service."""

    url: str  # without a slash at the end
    api: Api
    model: str  # as the service calls it
    key: KeySource | None = None
    connect_secs: float = _CONNECT_SECS
    read_secs: float = _READ_SECS  # the longest silence, before the first event and between two
    output_limit_key: OutputLimitKey = "max_tokens"  # api "openai": how the service calls it

    def __str__(self) -> str:
        return f"{self.model} at {self.url} ({self.api})"


@dataclass(frozen=True, slots=True)
class Fallback:
    """Who answers in a model's place, and when; `place` is where that is said."""

    target: LocalTarget | UpstreamTarget
    when: frozenset[Reason]
    rules: tuple[Rule, ...]
    place: str

    def __str__(self) -> str:
        reasons = [reason for reason in REASONS if reason in self.when]
        rules = [f"{len(self.rules)} rule{'s' if len(self.rules) > 1 else ''}"] if self.rules else []
        return f"{self.target} for {', '.join(reasons + rules)}"


def read_fallback(table: TomlTable, folder: Path) -> Fallback:
    """One fallback table. Raises `BadSetting` naming file and key.

    Args:
        table: the table.
        folder: where relative paths begin.
    """
    place = table.place
    fallback = Fallback(_target(table, folder), _when(table), _rules(table), place)
    table.finish()
    if not fallback.when and not fallback.rules:
        raise table.complain("when", "says never, and there are no rules")
    return fallback


def _target(table: TomlTable, folder: Path) -> LocalTarget | UpstreamTarget:
    model = table.require("model", str)
    if not model.strip():
        raise table.complain("model", "is empty")
    if not table.has("url"):
        if table.has("api"):
            raise table.complain("api", "needs a url")
        return LocalTarget(model)
    if not _PRINTABLE.fullmatch(model):  # it may go into a header
        raise table.complain("model", f"may hold printable ASCII without spaces only, not {model!r}")
    api = cast(Api, table.choice("api", APIS, ""))
    key = _key_source(table, folder)
    return UpstreamTarget(
        _url(table, has_key=key is not None),
        api,
        model,
        key,
        table.secs("connect_secs", _CONNECT_SECS),
        table.secs("read_secs", _READ_SECS),
        cast(OutputLimitKey, table.choice("output_limit_key", OUTPUT_LIMIT_KEYS, "max_tokens"))
        if api == "openai"
        else "max_tokens",
    )


def _url(table: TomlTable, *, has_key: bool) -> str:
    url = table.require("url", str).rstrip("/")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not _PRINTABLE.fullmatch(url):
        raise table.complain("url", f"must be a URL of http or https, not {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise table.complain("url", "must hold no user, no password, no query and no fragment")
    if parts.scheme == "http" and has_key and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise table.complain("url", "must begin with https where a key is sent over a network")
    return url


def _key_source(table: TomlTable, folder: Path) -> KeySource | None:
    if table.has("key"):
        raise table.complain("key", "must not stand here: name its key_file or its key_variable")
    if table.has("key_file") and table.has("key_variable"):
        raise table.complain("key_variable", "cannot be given beside key_file")
    if table.has("key_file"):
        place = table.place_of("key_file")
        return KeySource(place, file=folder / Path(table.require("key_file", str)).expanduser())
    if table.has("key_variable"):
        place = table.place_of("key_variable")
        return KeySource(place, variable=table.require("key_variable", str))
    return None


def _when(table: TomlTable) -> frozenset[Reason]:
    if not table.has("when"):
        return USUAL_REASONS
    words = table.strings("when")
    for word in words:
        if word not in REASONS:
            raise table.complain("when", f"{word!r} is not one of {', '.join(REASONS)}")
    return frozenset(cast(tuple[Reason, ...], words))


def _rules(table: TomlTable) -> tuple[Rule, ...]:
    rules = []
    for each in table.tables("rules"):
        rule = Rule(
            prompt_tokens_over=each.not_negative("prompt_tokens_over")
            if each.has("prompt_tokens_over")
            else None,
            max_tokens_over=each.not_negative("max_tokens_over") if each.has("max_tokens_over") else None,
            has_tools=_truth(each, "has_tools"),
            has_forced_call=_truth(each, "has_forced_call"),
            has_images=_truth(each, "has_images"),
            has_documents=_truth(each, "has_documents"),
            is_structured=_truth(each, "is_structured"),
        )
        each.finish()
        if rule == Rule():
            raise each.complain("", "is empty, so that it would match every request")
        rules.append(rule)
    return tuple(rules)


def _truth(table: TomlTable, key: str) -> bool | None:
    return table.require(key, bool) if table.has(key) else None


def _text_of(file: Path, place: str) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "it is no text"
        raise BadSetting(f"{file} cannot be read: {reason}", place=place) from None
