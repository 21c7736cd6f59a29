"""Opens models: from a name in the settings to an engine that runs it, its codec and what was chosen on the way.

registry ── models ── kernels ── engine
                                 codec
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

from hokku.chat.codec import Codec
from hokku.chat.spec import TokenizerSpec
from hokku.chat.tokenizer import Tokenizer
from hokku.engine.config import EngineConfig
from hokku.engine.engine import LocalEngine
from hokku.engine.shelf import Shelf, ShelfConfig, installation_secret
from hokku.kernels import (
    CpuReport,
    KvFormat,
    NativeProgram,
    PagePool,
    ThreadPool,
    WeightFormat,
    build_digest,
    cpu_report,
    page_bytes,
)
from hokku.kernels.program import PAGE_TOKENS
from hokku.machine import free_memory_bytes
from hokku.models.checkpoint import Checkpoint
from hokku.models.packing import PackedModel, TextSide, load_model
from hokku.models.vision.encoder import TileEncoder
from hokku.models.vision.tower import Tower, has_tower, open_tower
from hokku.protocol.errors import BadModelFile, BadSetting, ModelNotFound
from hokku.registry.cache import ModelCache
from hokku.registry.manifest import FormatChoice, HubWeights, LocalWeights, Manifest, WheelWeights
from hokku.registry.pull import pull
from hokku.registry.registry import DEFAULT_MODEL, Registry
from hokku.service.models import ServedModel
from hokku.settings import Settings

_log = logging.getLogger(__name__)

Fetch = Callable[[Manifest, ModelCache], Path]
Packing = Callable[[int, int], None]  # steps done, steps in all
Fact = tuple[str, str]  # a label and what was found or chosen, with its reason

_TOKENIZER = "tokenizer"  # the packed file's name for the tokenizer's spec
_MOST_AUTOMATIC_KV_BYTES = 4 << 30
_SHARE_OF_FREE_MEMORY = 4
# Rows up to which a step may take longer by less than it has more to do: a tile of rows, where there are tiles.
_SPECULATIVE_ROWS = 16
# Steps that batches take part in: while people chat, and once nobody does. Whoever asks waits for half of that on
# average (docs/lab-notebook.md).
_BATCH_STEP_SECS = 0.015
_LONE_BATCH_STEP_SECS = 0.04


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model that answers, and what was found and chosen on the way."""

    served: ServedModel
    engine: LocalEngine
    packed: PackedModel
    facts: tuple[Fact, ...]


def choose_kernels(settings: Settings) -> CpuReport:
    """The kernel path and threads that these settings mean here. Raises `BadSetting` for one this CPU lacks."""
    try:
        report = cpu_report(None if settings.isa == "auto" else settings.isa)
    except ValueError as cause:
        raise BadSetting(
            str(cause), place="isa", way_out="hokku doctor lists the paths of this machine"
        ) from cause
    if settings.threads:
        return replace(report, num_threads=settings.threads, threads_reason="the setting threads")
    return report


def resolve(settings: Settings) -> tuple[Manifest, dict[str, str]]:
    """The manifest to serve, and the further names that stand for it.

    Weights that somebody points at directly answer to the default alias too, in this process: pointing at them
    is moving it.
    """
    registry = Registry.load(settings.data_dir)
    manifest = registry.resolve_or_open(settings.model)
    names = set(registry.aliases_of(manifest.id))
    if manifest not in registry.manifests():
        names.add(DEFAULT_MODEL)
    return manifest, dict.fromkeys(names, manifest.id)


def resolve_all(settings: Settings) -> tuple[tuple[Manifest, ...], dict[str, str]]:
    """The manifest to serve, those of this machine that it falls back to, and the further names that stand for each."""
    registry = Registry.load(settings.data_dir)
    manifest, aliases = resolve(settings)
    chain = registry.with_fallbacks(manifest)
    for each in chain[1:]:
        aliases |= dict.fromkeys(registry.aliases_of(each.id), each.id)
    return chain, aliases


def loading_order(chain: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Each before its fallback, but for those whose fallback is to answer while they are loading."""
    order: tuple[Manifest, ...] = ()
    for manifest in reversed(chain):
        is_last = manifest.fallback is not None and "loading" in manifest.fallback.when
        order = (*order, manifest) if is_last else (manifest, *order)
    return order


def find_packed(settings: Settings, fetch: Fetch, packing: Packing) -> PackedModel:
    """The weights that the settings name in the kernels' own layout; fetched and packed first if they are not."""
    manifest, _ = resolve(settings)
    cache = ModelCache(settings.cache_dir)
    return _packed(settings, manifest, fetch(manifest, cache), cache, packing)


def _packed(
    settings: Settings, manifest: Manifest, weights: Path, cache: ModelCache, packing: Packing
) -> PackedModel:
    return load_model(
        weights,
        read_text_side=_read_text_side,
        digest=_digest(manifest),
        weights_format=_format(settings, manifest),
        cache_dir=cache.root / "packed",
        progress=packing,
    )


def open_model(
    settings: Settings, fetch: Fetch = pull, packing: Packing = lambda done, total: None
) -> OpenedModel:
    """Find, fetch if need be, pack if need be, record and start the model that the settings name.

    Args:
        settings: which model and how.
        fetch: brings the weights here when they are not.
        packing: told of progress while weights are packed, which happens once a model.

    Raises: `OperatorError` and its kinds.
    """
    manifest, _ = resolve(settings)
    return open_one(settings, manifest, fetch, packing)


def open_one(
    settings: Settings,
    manifest: Manifest,
    fetch: Fetch,
    packing: Packing,
    *,
    num_sharing: int = 1,
    has_batches: bool = False,
) -> OpenedModel:
    """Like `open_model`; `num_sharing` models share the memory and the disk space that the settings grant, and where
    it `has_batches`, these let others in."""
    kernels = choose_kernels(settings)
    cache = ModelCache(settings.cache_dir)
    weights = fetch(manifest, cache)
    packed = _packed(settings, manifest, weights, cache, packing)
    manifest, tower = _find_tower(settings, manifest, weights, cache)
    if tower is not None and tower.config.out != packed.config.hidden:
        raise BadModelFile(
            f"sees for models of width {tower.config.out}, and {manifest.id} has {packed.config.hidden}",
            place=str(tower.path),
        )
    engine, pool = _start_engine(settings, kernels, packed, tower, num_sharing, has_batches)
    served = ServedModel(manifest, _codec(packed, manifest, tower), engine)
    return OpenedModel(served, engine, packed, _facts(served, packed, kernels, pool, tower))


def choose_kv_format(settings: Settings, packed: PackedModel) -> KvFormat:
    """How these settings keep the keys and values of a model."""
    return packed.kv_format if settings.kv_format == "auto" else KvFormat[settings.kv_format.upper()]


def _start_engine(
    settings: Settings,
    kernels: CpuReport,
    packed: PackedModel,
    tower: Tower | None,
    num_sharing: int,
    has_batches: bool,
) -> tuple[LocalEngine, PagePool]:
    config = packed.config
    pool = _make_pool(settings, packed, num_sharing)
    window_tokens = min(config.context_window_tokens, pool.num_pages * PAGE_TOKENS)
    limits = EngineConfig(
        context_window_tokens=window_tokens,
        vocabulary=config.vocabulary,
        num_pages=pool.num_pages,
        max_step_tokens=settings.max_step_tokens,
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
        max_wait_secs=settings.queue_secs,
        max_speculative_rows=min(_SPECULATIVE_ROWS, settings.max_step_tokens) if settings.speculation else 0,
        batch_step_secs=_BATCH_STEP_SECS if has_batches else 0.0,
        lone_batch_step_secs=_LONE_BATCH_STEP_SECS if has_batches else 0.0,
        turns_pictures=bool(config.rope_sections),
    )
    threads = ThreadPool(kernels.num_threads)
    program = NativeProgram(
        max_rows=limits.max_step_tokens,
        max_logit_rows=limits.max_logit_rows,
        pool=pool,
        threads=threads,
        isa=kernels.isa,
    )
    packed.record(program, max_positions=window_tokens)
    shelf = _make_shelf(settings, kernels, packed, tower, pool, num_sharing)
    encoder = TileEncoder(tower, threads, _tower_format(packed), kernels.isa) if tower else None
    return LocalEngine(program, limits, shelf=shelf, encoder=encoder), pool


def _tower_format(packed: PackedModel) -> WeightFormat:
    """Eyes are kept as finely as the model they see for: integers, or floats."""
    return WeightFormat.BF16 if packed.weights_format == "bf16" else WeightFormat.INT8


def _make_shelf(
    settings: Settings,
    kernels: CpuReport,
    packed: PackedModel,
    tower: Tower | None,
    pool: PagePool,
    num_sharing: int,
) -> Shelf | None:
    """Where cache entries go that memory has no room for; without it, they are forgotten."""
    if not settings.cache_disk:
        return None
    try:
        config = ShelfConfig(
            directory=settings.data_dir / "prompts",
            max_bytes=settings.cache_disk // num_sharing,
            secret=installation_secret(settings.data_dir / "cache-secret"),
            fingerprint=_fingerprint(kernels, packed, tower, pool),
        )
        return Shelf(config, pool)
    except OSError as cause:
        _log.warning("cached prompts are kept in memory only: %s", cause)
        return None


def _fingerprint(kernels: CpuReport, packed: PackedModel, tower: Tower | None, pool: PagePool) -> bytes:
    """A digest of all that the bits of keys and values depend on. Integer formats give the same on every path."""
    is_exact = packed.weights_format != "bf16" and pool.kv_format is KvFormat.INT8
    parts = (
        version("hokku-llm"),
        build_digest(),
        packed.stamp,
        packed.config,
        tower.stamp if tower else None,
        packed.weights_format,
        pool.kv_format.name,
        pool.page_bytes,
        "any path" if is_exact else kernels.isa,
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=32).digest()


def _make_pool(settings: Settings, packed: PackedModel, num_sharing: int) -> PagePool:
    """As many pages as the setting or the memory allows, but none that no request could ever reach."""
    config, kv_format = packed.config, choose_kv_format(settings, packed)
    one_page = page_bytes(config.layers, config.kv_heads, config.head_dim, kv_format)
    granted = settings.kv_cache or min(free_memory_bytes() // _SHARE_OF_FREE_MEMORY, _MOST_AUTOMATIC_KV_BYTES)
    budget = granted // num_sharing
    reachable = settings.max_running * -(-config.context_window_tokens // PAGE_TOKENS)
    num_pages = min(budget // one_page, reachable)
    if num_pages < 1:
        message = f"{budget} bytes do not hold one page of {one_page} bytes"
        raise BadSetting(message, place="kv_cache", way_out="give it more, for example 512MB")
    return PagePool(config.layers, num_pages, config.kv_heads, config.head_dim, kv_format)


def _codec(packed: PackedModel, manifest: Manifest, tower: Tower | None) -> Codec:
    spec = TokenizerSpec.from_json(packed.extra[_TOKENIZER])
    spec = replace(spec, chat_template=manifest.chat_template or spec.chat_template)
    return Codec.from_spec(spec, packed.config.vocabulary, tower.tiling if tower else None)


def _find_tower(
    settings: Settings, manifest: Manifest, weights: Path, cache: ModelCache
) -> tuple[Manifest, Tower | None]:
    """What sees pictures for the model: what the settings name, or the manifest, or what is in its own weights.

    Returns: the manifest with what the model can do by its eyes, and these."""
    # The settings' eyes are the named model's, and not those of the models that it falls back to.
    is_named = settings.eyes and manifest.id == resolve(settings)[0].id
    if is_named:
        manifest = replace(manifest, eyes=LocalWeights(Path(settings.eyes).expanduser()), sees_pages=True)
    elif manifest.eyes is None and has_tower(weights):
        manifest = replace(manifest, eyes=LocalWeights(weights))
    if manifest.eyes is None:
        if "image_input" in manifest.capabilities:
            raise BadSetting("its weights cannot see", place=f"{manifest.id}: capabilities: image_input")
        return manifest, None
    path = cache.locate(manifest.eyes)
    if path is None:
        raise ModelNotFound("no such file or folder", place=str(manifest.eyes.path))
    sees = {"image_input", "pdf_input"} if manifest.sees_pages else {"image_input"}
    return replace(manifest, capabilities=manifest.capabilities | sees), open_tower(path)


def _read_text_side(checkpoint: Checkpoint) -> TextSide:
    """The tokenizer, from wherever the checkpoint keeps it. Needed for packing only, and so imported here."""
    from hokku.chat.gguf_vocab import spec_from_gguf

    if checkpoint.tokenizer_source is None:
        spec = spec_from_gguf(checkpoint.metadata)
    else:
        spec = _spec_of_folder(checkpoint, checkpoint.tokenizer_source)
    return TextSide(Tokenizer(spec).encode_rendered, {_TOKENIZER: spec.to_json()})


def _spec_of_folder(checkpoint: Checkpoint, tokenizer_json: Path) -> TokenizerSpec:
    from hokku.chat.hf_vocab import spec_from_hf

    template = checkpoint.path / "chat_template.jinja"
    return spec_from_hf(
        tokenizer_json.read_text("utf-8"),
        json.dumps(checkpoint.metadata.get("tokenizer_config", {})),
        json.dumps(checkpoint.metadata.get("generation_config", {})),
        template.read_text("utf-8") if template.is_file() else None,
    )


def _digest(manifest: Manifest) -> str | None:
    """The pinned digest of weights that are one file."""
    match manifest.weights:
        case WheelWeights(sha256=sha256) | LocalWeights(sha256=sha256):
            return sha256
        case HubWeights(sha256s=sha256s):
            return next(iter(sha256s.values())) if len(sha256s) == 1 else None


def _format(settings: Settings, manifest: Manifest) -> FormatChoice:
    if settings.weights_format == "auto":
        return manifest.weights_format
    return cast(FormatChoice, settings.weights_format)


def _facts(
    served: ServedModel, packed: PackedModel, kernels: CpuReport, pool: PagePool, tower: Tower | None
) -> tuple[Fact, ...]:
    manifest = served.manifest
    window = f"{served.context_window_tokens:,} tokens of context"
    return (
        ("model", f"{manifest.id} ({manifest.description})"),
        ("weights", f"{packed.weights_format}, {packed.nbytes / 1e6:,.0f} MB; {window}"),
        ("kernels", f"{kernels.isa}: {kernels.isa_reason}"),
        ("threads", f"{kernels.num_threads}: {kernels.threads_reason}"),
        (
            "cache",
            f"{pool.kv_format.name.lower()}, {pool.nbytes / 1e6:,.0f} MB at most for keys and values, "
            f"{pool.num_pages * PAGE_TOKENS:,} tokens",
        ),
        *((("eyes", str(tower)),) if tower else ()),
    )
