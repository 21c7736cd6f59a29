"""Assembles the rooms: the one place that knows them all.

    registry ── models ── kernels ── engine ┐
                                    codec ──┴── service ── api

`open_model` goes as far as a model that answers; `House` puts the service and the wires on top of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import cast

from starlette.applications import Starlette

from hokku.api.anthropic.batch_wire import AnthropicBatchWire
from hokku.api.config import ApiConfig, Compatibility, MetricsAccess, Services
from hokku.api.http import create_app
from hokku.blobs.location import open_blobs
from hokku.chat.codec import Codec
from hokku.chat.spec import TokenizerSpec
from hokku.chat.tokenizer import Tokenizer
from hokku.documents.config import FetchConfig, UrlSources, WorkersConfig
from hokku.engine.config import EngineConfig
from hokku.engine.engine import LocalEngine
from hokku.engine.shelf import Shelf, ShelfConfig, installation_secret
from hokku.kernels import (
    CpuReport,
    KvFormat,
    NativeProgram,
    PagePool,
    ThreadPool,
    build_digest,
    cpu_report,
    page_bytes,
)
from hokku.kernels.program import PAGE_TOKENS
from hokku.machine import free_memory_bytes
from hokku.models.checkpoint import Checkpoint
from hokku.models.packing import PackedModel, TextSide, load_model
from hokku.protocol.engine import EngineStats, Priority
from hokku.protocol.errors import BadSetting
from hokku.quotas.buckets import Buckets, LocalBuckets
from hokku.registry.cache import ModelCache
from hokku.registry.fallback import Fallback, UpstreamTarget
from hokku.registry.manifest import FormatChoice, HubWeights, LocalWeights, Manifest, WheelWeights
from hokku.registry.pull import pull
from hokku.registry.registry import DEFAULT_MODEL, Registry
from hokku.service.administration import Administration
from hokku.service.attachments import Attachments, AttachmentsConfig
from hokku.service.batch_answers import BatchAnswers
from hokku.service.batch_runner import BatchRunner, RunnerConfig
from hokku.service.batches import Batches
from hokku.service.booking import BookedReplies
from hokku.service.call_limits import CallLimits
from hokku.service.chores import Chores
from hokku.service.draining import Drain, DrainingReplies
from hokku.service.fallback import FallbackService, Upstream
from hokku.service.files import Files, FilesConfig, FileStore
from hokku.service.first_key import first_key
from hokku.service.keys import KeyRing, hash_key
from hokku.service.ledger import Ledger
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesConfig, MessagesService, SamplingSeed
from hokku.service.models import Catalogue, ServedModel
from hokku.service.rate_limits import RateLimits
from hokku.service.readiness import Readiness
from hokku.service.replies import ReadingReplies
from hokku.service.reports import Reports
from hokku.service.rule_book import RuleBook
from hokku.settings import Settings, blobs_location, check_exposure, database_url, is_loopback
from hokku.storage.storage import Storage
from hokku.telemetry.logs import log_exchange
from hokku.telemetry.metrics import Metrics
from hokku.telemetry.spans import asked_for, spans_to_exporter

_log = logging.getLogger(__name__)

Fetch = Callable[[Manifest, ModelCache], Path]
Packing = Callable[[int, int], None]  # steps done, steps in all
Fact = tuple[str, str]  # a label and what was found or chosen, with its reason

_TOKENIZER = "tokenizer"  # the packed file's name for the tokenizer's spec
_MOST_AUTOMATIC_KV_BYTES = 4 << 30
_SHARE_OF_FREE_MEMORY = 4
# Rows up to which a step may take longer by less than it has more to do: a tile of rows, where there are tiles.
_SPECULATIVE_ROWS = 16
_SPARE_READER_SECS = 60.0
# Of the requests that may run at once. The rest stays free, so that a newcomer need not wait until one has made way.
_SHARE_OF_BATCHES_PERCENT = 75
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
    return _find_packed(settings, manifest, fetch, packing)


def _find_packed(settings: Settings, manifest: Manifest, fetch: Fetch, packing: Packing) -> PackedModel:
    cache = ModelCache(settings.cache_dir)
    return load_model(
        fetch(manifest, cache),
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
    return _open(settings, manifest, fetch, packing)


def _open(
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
    packed = _find_packed(settings, manifest, fetch, packing)
    engine, pool = _start_engine(settings, kernels, packed, num_sharing, has_batches)
    served = ServedModel(manifest, _codec(packed, manifest), engine)
    return OpenedModel(served, engine, packed, _facts(served, packed, kernels, pool))


@contextmanager
def open_storage(settings: Settings) -> Iterator[Storage]:
    """The database that these settings name. Raises `BadSetting`, `DatabaseMismatch`, `StorageUnavailable`."""
    storage = Storage(database_url(settings))
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def open_batch_answers(settings: Settings, fetch: Fetch, packing: Packing) -> Iterator[BatchAnswers]:
    """A model that answers requests of batches, without a server or a database. Raises what `open_model` raises."""
    opened = open_model(settings, fetch, packing)
    try:
        _, aliases = resolve(settings)
        catalogue = Catalogue([opened.served.manifest], aliases)
        catalogue.put(opened.served)
        messages = make_messages(settings, catalogue, Priority.BATCH)
        wire = AnthropicBatchWire(catalogue, Compatibility(settings.compatibility))
        yield BatchAnswers(messages, wire, catalogue.manifest)
    finally:
        opened.engine.close()


def make_messages(
    settings: Settings, catalogue: Catalogue, priority: Priority, files: FileStore | None = None
) -> MessagesService:
    """The service behind every wire, as these settings have it. Without `files` there are no uploaded ones."""
    is_hosted = settings.compatibility == Compatibility.HOSTED
    config = MessagesConfig(
        SamplingSeed(settings.sampling_seed),
        follows_manifest_sampling=not is_hosted,
        reply_must_fit=is_hosted,
        priority=priority,
    )
    # A batch waits for its images; who asks for a reply waits for theirs.
    spare_secs = _SPARE_READER_SECS if priority is Priority.INTERACTIVE else 0.0
    return MessagesService(catalogue, config, Attachments(attachments_config(settings, spare_secs), files))


class House:
    """Everything that one server process holds. A context manager: leaving it closes the engines."""

    def __init__(self, settings: Settings) -> None:
        """Settle names and keys; nothing slow. Raises `BadSetting`, `ModelNotFound`."""
        check_exposure(settings)
        self._settings = settings
        self._chain, aliases = resolve_all(settings)
        self._catalogue = Catalogue(self._chain, aliases)
        self._upstreams = _make_upstreams(self._chain)
        keys = settings.api_key or (() if settings.open else (first_key(settings.data_dir),))
        self._storage = Storage(database_url(settings))
        self._ledger = Ledger(self._storage)
        blobs = open_blobs(blobs_location(settings), "files")
        self._files = Files(self._storage, blobs, FilesConfig(max_total_bytes=settings.file_storage))
        self._chores = Chores({"tidying files": self._files.tidy})
        self._buckets = _make_buckets(settings)
        self._keys = KeyRing(map(hash_key, keys), self._storage, open_access=settings.open)
        self._engines: list[LocalEngine] = []
        self.drain = Drain()
        self._spans = spans_to_exporter(os.environ) if asked_for(os.environ) else None
        self._blobs = open_blobs(blobs_location(settings), "batches")
        self._metrics = Metrics(self._engine_stats, self._batch_backlog)
        self._runner = self._batch_runner()
        # A configured key belongs to the operator and is never printed; one made here has to be shown.
        self.key_to_show = None if settings.api_key else keys[0] if keys else "none needed"
        self.name_to_show = DEFAULT_MODEL if DEFAULT_MODEL in aliases else self._chain[0].id

    def application(self) -> Starlette:
        """The HTTP side; it answers 529 and a `/readyz` of 503 until `open_doors` is through."""
        compatibility = Compatibility(self._settings.compatibility)
        messages = make_messages(self._settings, self._catalogue, Priority.INTERACTIVE, self._files)
        has_fallback = any(manifest.fallback for manifest in self._chain)
        replies: ReadingReplies = (
            FallbackService(messages, self._catalogue, self._upstreams) if has_fallback else messages
        )
        booked = BookedReplies(replies, self._ledger, self._catalogue.manifest)
        config_of_api = ApiConfig(compatibility, metrics=_metrics_access(self._settings))
        limits = RateLimits(self._storage, self._buckets, config_of_api.organization_id)
        limited = LimitedReplies(booked, limits, self._catalogue.manifest)
        batches = Batches(self._storage, self._blobs, self._runner.wake)
        services = Services(
            DrainingReplies(limited, self.drain),
            self._catalogue,
            self._keys,
            Reports(self._storage),
            Administration(self._storage),
            batches,
            Readiness(self._catalogue, self.drain, self._storage.ping),
            self._files,
            self._metrics,
            (self._metrics.observe, log_exchange, *((self._spans.observe,) if self._spans else ())),
            CallLimits(self._storage, self._buckets, config_of_api.organization_id),
            self._ledger.book,
        )
        closers = [messages.close, *(upstream.close for upstream in self._upstreams.values())]
        closers.append(self._buckets.close)
        return create_app(services, config_of_api, closers)

    def _engine_stats(self) -> list[tuple[str, EngineStats]]:
        return [(model.id, model.engine.stats()) for model in self._catalogue.served]

    def _batch_backlog(self) -> int:
        if not self._storage.may_have_batches:
            return 0
        return sum(batch.counts.processing for batch in self._storage.batches.unfinished())

    def open_doors(self, fetch: Fetch, packing: Packing) -> tuple[Fact, ...]:
        """Look at the database, load the models and let requests in; what was found and chosen. Raises what
        `open_model` raises, `DatabaseMismatch`, `StorageUnavailable`."""
        self._storage.check()
        self._chores.start()
        facts: dict[str, tuple[Fact, ...]] = {}
        for manifest in loading_order(self._chain):
            opened = _open(
                self._settings,
                manifest,
                fetch,
                packing,
                num_sharing=len(self._chain),
                has_batches=True,
            )
            self._engines.append(opened.engine)
            self._catalogue.put(opened.served)
            facts[manifest.id] = opened.facts
        self._runner.start(is_idle=not self._storage.may_have_batches)
        return tuple(
            fact for each in self._chain for fact in (*facts[each.id], *_fallback_fact(each.fallback))
        )

    def _batch_runner(self) -> BatchRunner:
        """It runs on a loop of its own, and so needs a service of its own."""
        wire = AnthropicBatchWire(self._catalogue, Compatibility(self._settings.compatibility))
        messages = make_messages(self._settings, self._catalogue, Priority.BATCH, self._files)
        rules = RuleBook(self._storage)
        answers = BatchAnswers(messages, wire, self._catalogue.manifest, rules.refuse_spent)
        num_in_flight = max(1, self._settings.max_running * _SHARE_OF_BATCHES_PERCENT // 100)
        config = RunnerConfig(num_in_flight)
        return BatchRunner(self._storage, self._blobs, answers, config, self._metrics.observe_batched)

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.park()
        for engine in self._engines:
            engine.close()
        self._chores.stop()
        self._files.close()
        self._ledger.close()
        self._storage.close()
        if self._spans is not None:
            self._spans.close()


def attachments_config(settings: Settings, spare_secs: float = 0.0) -> AttachmentsConfig:
    """What these settings let requests attach; a process waits `spare_secs` for the next image."""
    return AttachmentsConfig(
        fetch=FetchConfig(UrlSources(settings.url_sources)), workers=WorkersConfig(spare_secs=spare_secs)
    )


def _metrics_access(settings: Settings) -> MetricsAccess:
    if settings.metrics != "auto":
        return MetricsAccess(settings.metrics)
    return MetricsAccess.THIS_MACHINE if is_loopback(settings.host) else MetricsAccess.ADMIN


def _make_buckets(settings: Settings) -> Buckets:
    if not settings.valkey:
        return LocalBuckets()
    from hokku.quotas.valkey import ValkeyBuckets  # rarely needed

    return ValkeyBuckets(settings.valkey)


def choose_kv_format(settings: Settings, packed: PackedModel) -> KvFormat:
    """How these settings keep the keys and values of a model."""
    return packed.kv_format if settings.kv_format == "auto" else KvFormat[settings.kv_format.upper()]


def _make_upstreams(chain: Sequence[Manifest]) -> dict[str, Upstream]:
    """The services that models fall back to, by the models' ids. Raises `BadSetting` for a key that is not there."""
    targets = {manifest.id: manifest.fallback.target for manifest in chain if manifest.fallback}
    return {
        model_id: _make_upstream(target)
        for model_id, target in targets.items()
        if isinstance(target, UpstreamTarget)
    }


def _make_upstream(target: UpstreamTarget) -> Upstream:
    from hokku.upstream.client import FORMS, Upstream  # slow to import, and rarely needed
    from hokku.upstream.config import UpstreamConfig

    config = UpstreamConfig(
        url=target.url,
        model=target.model,
        key=target.key.read() if target.key else None,
        connect_secs=target.connect_secs,
        read_secs=target.read_secs,
        output_limit_key=target.output_limit_key,
    )
    return Upstream(FORMS[target.api](), config)


def _fallback_fact(fallback: Fallback | None) -> tuple[Fact, ...]:
    return (("fallback", str(fallback)),) if fallback else ()


def _start_engine(
    settings: Settings, kernels: CpuReport, packed: PackedModel, num_sharing: int, has_batches: bool
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
    )
    program = NativeProgram(
        max_rows=limits.max_step_tokens,
        max_logit_rows=limits.max_logit_rows,
        pool=pool,
        threads=ThreadPool(kernels.num_threads),
        isa=kernels.isa,
    )
    packed.record(program, max_positions=window_tokens)
    shelf = _make_shelf(settings, kernels, packed, pool, num_sharing)
    return LocalEngine(program, limits, shelf=shelf), pool


def _make_shelf(
    settings: Settings, kernels: CpuReport, packed: PackedModel, pool: PagePool, num_sharing: int
) -> Shelf | None:
    """Where cache entries go that memory has no room for; without it, they are forgotten."""
    if not settings.cache_disk:
        return None
    try:
        config = ShelfConfig(
            directory=settings.data_dir / "prompts",
            max_bytes=settings.cache_disk // num_sharing,
            secret=installation_secret(settings.data_dir / "cache-secret"),
            fingerprint=_fingerprint(kernels, packed, pool),
        )
        return Shelf(config, pool)
    except OSError as cause:
        _log.warning("cached prompts are kept in memory only: %s", cause)
        return None


def _fingerprint(kernels: CpuReport, packed: PackedModel, pool: PagePool) -> bytes:
    """A digest of all that the bits of keys and values depend on. Integer formats give the same on every path."""
    is_exact = packed.weights_format != "bf16" and pool.kv_format is KvFormat.INT8
    parts = (
        version("hokku-llm"),
        build_digest(),
        packed.stamp,
        packed.config,
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


def _codec(packed: PackedModel, manifest: Manifest) -> Codec:
    spec = TokenizerSpec.from_json(packed.extra[_TOKENIZER])
    spec = replace(spec, chat_template=manifest.chat_template or spec.chat_template)
    return Codec.from_spec(spec, packed.config.vocabulary)


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


def _facts(served: ServedModel, packed: PackedModel, kernels: CpuReport, pool: PagePool) -> tuple[Fact, ...]:
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
    )
