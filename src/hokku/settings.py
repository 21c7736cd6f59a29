"""Every setting once: name, kind, default, help. Command line, environment, file and docs read this table.

A value given on the command line wins over one in the environment, which wins over the config file, which
wins over the default. A value that cannot be used is refused with the name of the place that gave it.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from hokku.protocol.errors import BadSetting
from hokku.registry.registry import DEFAULT_MODEL
from hokku.registry.toml_table import TomlTable

T = TypeVar("T")
Group = Literal["server", "engine", "files"]  # which commands take a setting as an option
_SECRET = ("api_key", "database", "signing_secret", "valkey")  # values that are never printed
ENV_PREFIX = "HOKKU_"
CONFIG_VARIABLE = "HOKKU_CONFIG"
MEBIBYTE = 1 << 20
MIN_SIGNING_SECRET_CHARS = 32
_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}

# Names that people may still have in their files, each with what to write instead.
RETIRED_SETTINGS = {
    "api_keys": "use api_key; several keys are separated by commas",
    "bind": "use host and port",
    "kv_cache_mb": "use kv_cache with a unit, for example 512MB",
    "model_dir": "use model with a path, or cache_dir for fetched models",
}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a value is written: `parse` turns text into the value or raises ValueError saying what is wrong."""

    words: str  # for help and docs
    parse: Callable[[str], T]


def _text(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise ValueError("must be true or false")
    return known[text.lower()]


def _path(text: str) -> Path:
    return Path(_text(text)).expanduser().absolute()


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B|)", text.strip().upper())
    if match is None:
        raise ValueError("must be a size, for example 512MB or 2GB, or 0")
    return int(float(match[1]) * _UNITS[match[2]])


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        raise ValueError("must hold at least one key")
    if short := [key for key in keys if len(key) < 8]:
        raise ValueError(f"holds a key of {len(short[0])} characters; 8 are the least")
    return keys


def _signing_secret(text: str) -> str:
    if len(text) < MIN_SIGNING_SECRET_CHARS:
        raise ValueError(f"holds {len(text)} characters; {MIN_SIGNING_SECRET_CHARS} are the least")
    return text


def _buckets(text: str) -> tuple[str, ...]:
    buckets = tuple(bucket.strip() for bucket in text.split(",") if bucket.strip())
    for bucket in buckets:
        if not re.fullmatch(r"[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](@[^=@]+)?=.+", bucket):
            raise ValueError(f"must be NAME=LOCATION or NAME@WORKSPACE=LOCATION, not {bucket}")
    return buckets


def _database(text: str) -> str:
    if not re.match(r"(sqlite:///|postgresql://)", text):
        raise ValueError("must be a URL, sqlite:////path/to/file or postgresql://user@host/name")
    return text


def _whole(low: int, high: int) -> Kind[int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text.strip()) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return Kind(f"{low} to {high}", parse)


def _choice(*words: str) -> Kind[str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return Kind(" | ".join(words), parse)


TEXT = Kind("text", _text)
TRUTH = Kind("true | false", _truth)
PATH = Kind("path", _path)
SIZE = Kind("size, for example 512MB", _size)
DATABASE = Kind("database URL", _database)
KEYS = Kind("keys, separated by commas", _keys)
BUCKETS = Kind("NAME[@WORKSPACE]=LOCATION, separated by commas", _buckets)
SIGNING_SECRET = Kind("32 characters or more", _signing_secret)


def _data_home() -> Path:
    return _platform_home("XDG_DATA_HOME", ".local/share", "Library/Application Support")


def _cache_home() -> Path:
    return _platform_home("XDG_CACHE_HOME", ".cache", "Library/Caches")


def _platform_home(variable: str, linux: str, mac: str) -> Path:
    if sys.platform == "darwin":
        return Path.home() / mac / "hokku"
    base = os.environ.get(variable, "")
    return (Path(base) if os.path.isabs(base) else Path.home() / linux) / "hokku"


def _row(group: Group, default: Any, kind: Kind[Any], words: str, shown: str = "") -> Any:
    metadata = {"group": group, "kind": kind, "help": words, "shown": shown or str(default)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The table itself, and one set of values."""

    model: str = _row(
        "engine",
        DEFAULT_MODEL,
        TEXT,
        "Model to load: an id, an alias, or the path of a GGUF file or a safetensors folder.",
    )
    eyes: str = _row(
        "engine",
        "",
        TEXT,
        "Path of what sees pictures for the model, where that is not in its own file: a GGUF file that llama.cpp calls "
        "mmproj, or a folder.",
        "the manifest's",
    )
    host: str = _row("server", "127.0.0.1", TEXT, "Address to listen on.")
    port: int = _row("server", 8080, _whole(0, 65535), "Port to listen on; 0 lets the system choose.")
    api_key: tuple[str, ...] = _row(
        "server",
        (),
        KEYS,
        "Keys that clients may show. None: one is made at the first start and kept in the data directory.",
        "made at the first start",
    )
    open: bool = _row(
        "server", False, TRUTH, "Serve callers without a key too; on a loopback address only.", "false"
    )
    compatibility: str = _row(
        "server",
        "friendly",
        _choice("friendly", "hosted"),
        "hosted refuses whatever the hosted service refuses, even where this one could serve it.",
    )
    sampling_seed: str = _row(
        "server",
        "request",
        _choice("request", "random"),
        "request: the same request gives the same tokens. random: a new draw each time.",
    )
    url_sources: str = _row(
        "server",
        "public",
        _choice("public", "any", "none"),
        "Which URLs of documents and images are fetched. public: https, addresses of the whole internet only. "
        "any: http and your own network too, where every client is trusted.",
    )
    data_dir: Path = _row(  # noqa: RUF009 - a row of the table, not a shared mutable value
        "files",
        _data_home,
        PATH,
        "State: the key of the first start, aliases, fallbacks, manifests of your own (models/*.toml).",
        "the platform's data directory",
    )
    cache_dir: Path = _row(  # noqa: RUF009 - as above
        "files",
        _cache_home,
        PATH,
        "Fetched and packed models; may be deleted at any time.",
        "the platform's cache directory",
    )
    database: str = _row(
        "files",
        "",
        DATABASE,
        "Where keys and usage are kept: sqlite:////path/to/file, or postgresql://user@host/name for several machines.",
        "hokku.db in the data directory",
    )
    signing_secret: str = _row(
        "files",
        "",
        SIGNING_SECRET,
        "What the secrets of access keys (hokku keys create --aws) are made from; one for all servers of a database.",
        "made with the first such key, in the data directory",
    )
    valkey: str = _row(
        "server",
        "",
        TEXT,
        "URL of a Valkey or Redis that keeps the levels of rate limits, for several servers to share.",
        "in memory",
    )
    blobs: str = _row(
        "files",
        "",
        TEXT,
        "Where uploaded files and what batches ask and get are kept: a directory, or "
        "s3://bucket/prefix?endpoint=https://…&region=…, credentials in the usual AWS_ variables.",
        "blobs in the data directory",
    )
    job_buckets: tuple[str, ...] = _row(
        "server",
        (),
        BUCKETS,
        "What model invocation jobs of Bedrock's clients may read from and write to, each for the default workspace or "
        "the one that is named; a location as of blobs.",
        "none",
    )
    file_storage: int = _row("server", 100 << 30, SIZE, "Most bytes of all uploaded files together.", "100GB")
    threads: int = _row("engine", 0, _whole(0, 1024), "Threads that compute; 0 is one for each usable core.")
    isa: str = _row(
        "engine",
        "auto",
        _choice(
            "auto", "portable", "avx2", "avxvnni", "avx512", "avx512_bf16", "amx", "amx_emulated", "neon"
        ),
        "Kernel path; auto takes the best this CPU has.",
    )
    weights_format: str = _row(
        "engine",
        "auto",
        _choice("auto", "int8", "int4", "bf16"),
        "How weights are packed; auto follows the manifest, then the checkpoint.",
    )
    kv_format: str = _row(
        "engine",
        "auto",
        _choice("auto", "int8", "bf16"),
        "How keys and values are kept; auto is int8, but bf16 beside bf16 weights.",
    )
    kv_cache: int = _row(
        "engine",
        0,
        SIZE,
        "Memory for keys and values of prompts, running and cached; 0: a quarter of the free, 4GB at most.",
    )
    cache_disk: int = _row(
        "engine",
        2 << 30,
        SIZE,
        "Disk space in the data directory for marked prompts that memory has no room for, and for those of an hour, "
        "which outlast a restart; 0: none.",
        "2GB",
    )
    max_step_tokens: int = _row("engine", 512, _whole(16, 8192), "Most tokens computed in one step.")
    max_running: int = _row("engine", 64, _whole(1, 1024), "Most requests generating at once.")
    max_waiting: int = _row(
        "engine", 1024, _whole(0, 1_000_000), "Most requests waiting; one more is answered 529 (overloaded)."
    )
    queue_secs: int = _row(
        "engine",
        120,
        _whole(0, 86_400),
        "Longest that a request waits for its turn before it is answered 529 (overloaded); requests of batches wait as "
        "long as it takes. 0: so do all.",
    )
    speculation: bool = _row(
        "engine",
        True,
        TRUTH,
        "Try several tokens of a stream in one step where earlier text suggests them; replies stay the same.",
        "true",
    )
    grace_secs: int = _row(
        "server", 10, _whole(0, 3600), "At SIGTERM, how long replies under way may take to finish."
    )
    metrics: str = _row(
        "server",
        "auto",
        _choice("auto", "open", "admin", "off"),
        "Who may read /metrics. admin: an administrator's key. auto: on a loopback address also whoever asks from this "
        "machine without a proxy; elsewhere admin.",
    )
    log_format: str = _row(
        "server", "text", _choice("text", "json"), "json: one object a line, for programs."
    )
    log_level: str = _row(
        "server",
        "warning",
        _choice("debug", "info", "warning", "error"),
        "How much is logged; info logs each request.",
    )


def database_url(settings: Settings) -> str:
    """Where keys and usage are kept."""
    return settings.database or f"sqlite:///{settings.data_dir / 'hokku.db'}"


def blobs_location(settings: Settings) -> str:
    """Where uploaded files and what batches ask and get are kept."""
    return settings.blobs or str(settings.data_dir / "blobs")


def table() -> tuple[Field[Any], ...]:
    """The rows, in the order of the docs."""
    return fields(Settings)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def option(name: str) -> str:
    """The command line option of a setting."""
    return "--" + name.replace("_", "-")


def load_settings(
    options: Mapping[str, str | None], environ: Mapping[str, str], config_file: Path | None = None
) -> Settings:
    """Settle every value. Raises `BadSetting` naming the option, variable or file and key at fault.

    Args:
        options: values given on the command line by setting name; None is not given.
        environ: the environment.
        config_file: a TOML file, or None for the one `HOKKU_CONFIG` names, if it does.
    """
    named = environ.get(CONFIG_VARIABLE)
    file = config_file or (Path(named).expanduser() if named else None)
    given = _from_file(file) | _from_environment(environ) | _from_options(options)
    return Settings(**{row.name: _parsed(row, *given[row.name]) for row in table() if row.name in given})


def as_variables(settings: Settings) -> dict[str, str]:
    """The settings of files and engine as environment variables, for another process that is to have them too."""
    rows = [row for row in table() if row.metadata["group"] != "server"]
    return {variable(row.name): str(getattr(settings, row.name)) for row in rows}


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One note for each HOKKU_ variable that is no setting: perhaps a slip of the pen."""
    known = [variable(row.name) for row in table()] + [CONFIG_VARIABLE]
    notes = []
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            notes.append(f"{name} is no setting" + (f"; did you mean {close[0]}?" if close else ""))
    return notes


def check_exposure(settings: Settings) -> None:
    """Refuse to serve strangers without a key. Raises `BadSetting`."""
    if settings.open and not is_loopback(settings.host):
        way_out = "set an api_key instead, or listen on 127.0.0.1"
        raise BadSetting(f"a server on {settings.host} must ask for a key", place="open", way_out=way_out)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


Given = dict[str, tuple[str, str]]  # setting name -> place, text


def _from_options(options: Mapping[str, str | None]) -> Given:
    return {name: (option(name), value) for name, value in options.items() if value is not None}


def _from_environment(environ: Mapping[str, str]) -> Given:
    for name, advice in RETIRED_SETTINGS.items():
        if variable(name) in environ:
            raise BadSetting("is no longer a setting", place=variable(name), way_out=advice)
    names = [row.name for row in table() if environ.get(variable(row.name))]
    return {name: (variable(name), environ[variable(name)]) for name in names}


def _from_file(file: Path | None) -> Given:
    if file is None:
        return {}
    values = TomlTable.read(file)
    for name, advice in RETIRED_SETTINGS.items():
        if values.has(name):
            raise BadSetting("is no longer a setting", place=f"{file}: {name}", way_out=advice)
    names = [row.name for row in table() if values.has(row.name)]
    given = {name: (f"{file}: {name}", values.take_text(name)) for name in names}
    values.finish()
    return given


def _parsed(row: Field[Any], place: str, text: str) -> Any:
    try:
        return cast(Kind[Any], row.metadata["kind"]).parse(text)
    except ValueError as cause:
        shown = "" if row.name in _SECRET else f", not {text!r}"
        raise BadSetting(f"{cause}{shown}", place=place) from cause
