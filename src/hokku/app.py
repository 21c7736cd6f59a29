"""Assembles the rooms: the one place that knows them all.

    opening ── service ── api

`opening.py` goes as far as a model that answers; `House` puts the service and the wires on top of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.applications import Starlette

from hokku.api.anthropic.batch_wire import AnthropicBatchWire
from hokku.api.batch_wires import BatchWires
from hokku.api.bedrock.job_wire import target_of
from hokku.api.config import ApiConfig, Compatibility, MetricsAccess, Services
from hokku.api.http import create_app
from hokku.blobs.location import open_blobs, open_bucket
from hokku.blobs.store import Bucket
from hokku.documents.config import FetchConfig, UrlSources, WorkersConfig
from hokku.engine.engine import LocalEngine
from hokku.opening import Fact, Fetch, Packing, loading_order, open_model, open_one, resolve, resolve_all
from hokku.protocol.engine import EngineStats, Priority
from hokku.protocol.records import DEFAULT_WORKSPACE_ID
from hokku.quotas.buckets import Buckets, LocalBuckets
from hokku.registry.fallback import Fallback, UpstreamTarget
from hokku.registry.manifest import Manifest
from hokku.registry.registry import DEFAULT_MODEL
from hokku.service.access_pairs import SigningSecret
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
from hokku.service.jobs import JOB, JobDelivery, Jobs, OpenBucket
from hokku.service.keys import KeyRing, hash_key
from hokku.service.ledger import Ledger
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesConfig, MessagesService, SamplingSeed
from hokku.service.models import Catalogue
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

_SPARE_READER_SECS = 60.0
# Of the requests that may run at once. The rest stays free, so that a newcomer need not wait until one has made way.
_SHARE_OF_BATCHES_PERCENT = 75


@contextmanager
def open_storage(settings: Settings) -> Iterator[Storage]:
    """The database that these settings name. Raises `BadSetting`, `DatabaseMismatch`, `StorageUnavailable`."""
    storage = Storage(database_url(settings))
    try:
        yield storage
    finally:
        storage.close()


def open_buckets(settings: Settings) -> dict[OpenBucket, Bucket]:
    """What jobs may read from and write to. Raises `BadSetting`."""
    buckets: dict[OpenBucket, Bucket] = {}
    for entry in settings.job_buckets:
        named, _, location = entry.partition("=")
        name, _, workspace_id = named.partition("@")
        opened = OpenBucket(workspace_id or DEFAULT_WORKSPACE_ID, name)
        buckets[opened] = open_bucket(location, "job_buckets")
    return buckets


def signing_secret(settings: Settings) -> SigningSecret:
    """What the secrets of access keys are made from."""
    return SigningSecret(settings.signing_secret, settings.data_dir)


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
        self._keys = KeyRing(
            map(hash_key, keys), self._storage, signing_secret(settings), open_access=settings.open
        )
        self._engines: list[LocalEngine] = []
        self.drain = Drain()
        self._spans = spans_to_exporter(os.environ) if asked_for(os.environ) else None
        self._blobs = open_blobs(blobs_location(settings), "batches")
        self._job_buckets = open_buckets(settings)
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
        jobs = Jobs(
            Batches(self._storage, self._blobs, self._runner.wake, JOB),
            self._job_buckets,
            config_of_api.max_batch_bytes,
        )
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
            jobs,
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
            opened = open_one(
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
        wire = BatchWires(self._catalogue, Compatibility(self._settings.compatibility))
        messages = make_messages(self._settings, self._catalogue, Priority.BATCH, self._files)
        rules = RuleBook(self._storage)
        answers = BatchAnswers(messages, wire, self._catalogue.manifest, rules.refuse_spent)
        num_in_flight = max(1, self._settings.max_running * _SHARE_OF_BATCHES_PERCENT // 100)
        config = RunnerConfig(num_in_flight)
        delivery = JobDelivery(self._blobs, self._job_buckets, target_of)
        observe = self._metrics.observe_batched
        return BatchRunner(self._storage, self._blobs, answers, config, observe, delivery.deliver)

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
