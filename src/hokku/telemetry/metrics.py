"""Metrics in Prometheus's words: counted here all the time, put into its text format when somebody scrapes.

Labels are bounded: routes of the table, statuses, the wire's error types, models on offer, the two tiers. Never a key,
a workspace, a user or a path that somebody has thought up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from hokku.protocol.batches import Conclusion
from hokku.protocol.engine import EngineStats
from hokku.protocol.errors import StorageUnavailable
from hokku.protocol.events import Usage
from hokku.protocol.exchange import Exchange
from hokku.protocol.records import ServiceTier
from hokku.telemetry.tally import Counter, Histogram, Labels

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

T = TypeVar("T")

# From a cached prompt's few milliseconds to a document's minutes.
_FIRST_TOKEN_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# From 500 tokens a second to one.
_TOKEN_BOUNDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)
_REPLY_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

EngineGauge = tuple[str, str, Callable[[EngineStats], float]]
_ENGINE_GAUGES: tuple[EngineGauge, ...] = (
    ("queue_requests", "Requests that wait for the engine.", lambda stats: stats.num_waiting),
    ("running_requests", "Requests that the engine computes.", lambda stats: stats.num_running),
    ("kv_pages", "Pages for keys and values, in all.", lambda stats: stats.num_pages),
    (
        "kv_pages_used",
        "Pages held by running requests and by cache entries.",
        lambda stats: stats.num_pages - stats.num_pages_free - stats.num_pages_cached,
    ),
    ("kv_pages_cached", "Pages that only the prefix cache holds.", lambda stats: stats.num_pages_cached),
    ("cache_entries", "Prompts marked with cache_control, in memory.", lambda stats: stats.num_cache_entries),
)
_ENGINE_COUNTERS: tuple[EngineGauge, ...] = (
    ("engine_steps", "Steps of the engine.", lambda stats: stats.num_steps),
    ("prompt_tokens", "Tokens of prompts that the engine began.", lambda stats: stats.num_prompt_tokens),
    (
        "prompt_tokens_cached",
        "Of those, tokens whose keys and values were there already.",
        lambda stats: stats.num_prompt_tokens_cached,
    ),
    ("draft_tokens", "Tokens computed on the chance that they come next.", lambda stats: stats.num_drafted),
    ("draft_tokens_accepted", "Of those, the ones that did.", lambda stats: stats.num_accepted),
)


class Metrics:
    """Everything that `/metrics` tells.

    Args:
        engines: the loaded models' names and their engines' statistics as of now.
        batch_backlog: requests of batches that have no result yet. Blocks; raises `StorageUnavailable`.
    """

    def __init__(
        self,
        engines: Callable[[], Iterable[tuple[str, EngineStats]]],
        batch_backlog: Callable[[], int],
    ) -> None:
        self._engines = engines
        self._batch_backlog = batch_backlog
        self._requests = Counter("hokku_http_requests", "HTTP requests answered.", ("route", "status"))
        self._errors = Counter("hokku_errors", "Errors, in the wire's words.", ("type",))
        self._replies = Counter(
            "hokku_replies", "Replies, and requests of batches, that ended.", ("model", "tier", "outcome")
        )
        self._tokens = Counter("hokku_tokens", "Tokens as they are booked.", ("model", "tier", "kind"))
        self._first_token = Histogram(
            "hokku_time_to_first_token_seconds",
            "From a request's head to the first token of a streamed reply.",
            ("model",),
            _FIRST_TOKEN_BOUNDS,
        )
        self._each_token = Histogram(
            "hokku_time_per_output_token_seconds",
            "The mean time between tokens of a streamed reply.",
            ("model",),
            _TOKEN_BOUNDS,
        )
        self._reply_secs = Histogram(
            "hokku_reply_seconds",
            "From a request's head, or a batch's request's turn, to its reply's end.",
            ("model", "tier"),
            _REPLY_BOUNDS,
        )
        self._registry: CollectorRegistry | None = None
        self._lock = Lock()

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        self._requests.add(exchange.route, str(exchange.status))
        if exchange.error_type is not None:
            self._errors.add(exchange.error_type)
        if exchange.reply is None or exchange.outcome is None:
            return
        model_id = exchange.reply.model_id
        self._replies.add(model_id, _STANDARD, exchange.outcome)
        self._count_tokens(model_id, _STANDARD, _by_kind(exchange.reply.usage))
        self._reply_secs.observe(model_id, _STANDARD, value=exchange.secs)
        if (first_token_secs := exchange.first_token_secs) is not None:
            self._first_token.observe(model_id, value=first_token_secs)
        if (secs_a_token := exchange.secs_an_output_token) is not None:
            self._each_token.observe(model_id, value=secs_a_token)

    def observe_batched(self, conclusion: Conclusion) -> None:
        """Count requests of batches that have ended. On the thread of those who work them off: no other counts under
        their tier."""
        self._replies.add(conclusion.model_id, _BATCH, conclusion.outcome, amount=conclusion.number)
        self._count_tokens(conclusion.model_id, _BATCH, conclusion.tokens.items())
        if conclusion.secs is not None:
            self._reply_secs.observe(conclusion.model_id, _BATCH, value=conclusion.secs)

    def _count_tokens(self, model_id: str, tier: ServiceTier, tokens: Iterable[tuple[str, int]]) -> None:
        for kind, num_tokens in tokens:
            if num_tokens:
                self._tokens.add(model_id, tier, kind, amount=num_tokens)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All of it and its content type, in the text format that `accept` asks for. Blocks: the first call loads
        `prometheus_client`."""
        from prometheus_client.exposition import choose_encoder, generate_latest

        with self._lock:
            encode, content_type = choose_encoder(accept) if accept else (generate_latest, _PLAIN)
            return encode(self._opened_registry()), content_type

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`'s `Collector`."""
        for counter in (self._requests, self._errors, self._replies, self._tokens):
            yield _counter_family(counter)
        for histogram in (self._first_token, self._each_token, self._reply_secs):
            yield _histogram_family(histogram)
        yield from self._engine_families()
        yield self._backlog_family()

    def _engine_families(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        engines = list(self._engines())
        for family_type, rows in (
            (GaugeMetricFamily, _ENGINE_GAUGES),
            (CounterMetricFamily, _ENGINE_COUNTERS),
        ):
            for name, words, value_of in rows:
                family = family_type(f"hokku_{name}", words, labels=("model",))
                for model_id, stats in engines:
                    family.add_metric((model_id,), value_of(stats))
                yield family

    def _backlog_family(self) -> Metric:
        from prometheus_client.metrics_core import GaugeMetricFamily

        family = GaugeMetricFamily(
            "hokku_batch_backlog_requests", "Requests of batches that have no result yet.", labels=()
        )
        # Of a database that is away `/readyz` tells; all the rest can still be told here.
        with suppress(StorageUnavailable):
            family.add_metric((), self._batch_backlog())
        return family

    def _opened_registry(self) -> CollectorRegistry:
        if self._registry is None:
            from prometheus_client import CollectorRegistry, ProcessCollector

            self._registry = CollectorRegistry()
            ProcessCollector(registry=self._registry)
            self._registry.register(self)
        return self._registry


_STANDARD: ServiceTier = "standard"
_BATCH: ServiceTier = "batch"
_PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def _by_kind(usage: Usage) -> Sequence[tuple[str, int]]:
    return (
        ("input", usage.input_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write_5m", usage.cache_write_5m_tokens),
        ("cache_write_1h", usage.cache_write_1h_tokens),
        ("output", usage.output_tokens),
    )


def _counter_family(counter: Counter) -> Metric:
    from prometheus_client.metrics_core import CounterMetricFamily

    family = CounterMetricFamily(counter.name, counter.words, labels=counter.labels)
    for values, amount in _copied(counter.sums).items():
        family.add_metric(values, amount)
    return family


def _histogram_family(histogram: Histogram) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    bounds = [*map(str, map(float, histogram.bounds)), "+Inf"]
    family = HistogramMetricFamily(histogram.name, histogram.words, labels=histogram.labels)
    for values, row in _copied(histogram.rows).items():
        cumulated = accumulate(list(row.counts))
        family.add_metric(values, list(zip(bounds, cumulated, strict=True)), sum_value=row.total)
    return family


def _copied(rows: Mapping[Labels, T]) -> dict[Labels, T]:
    """In one go, because the event loop goes on counting."""
    return dict(rows)
