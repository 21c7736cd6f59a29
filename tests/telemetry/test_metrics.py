"""What a scrape tells: every count, in a text that Prometheus's own parser reads."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hokku.protocol.batches import Conclusion
from hokku.protocol.engine import EngineStats
from hokku.protocol.errors import StorageUnavailable
from hokku.protocol.exchange import Exchange
from hokku.telemetry.metrics import Metrics
from tests.telemetry.exchanges import an_exchange

STATS = EngineStats(
    num_waiting=2,
    num_running=3,
    num_pages=100,
    num_pages_free=60,
    num_pages_cached=30,
    num_steps=7,
    num_prompt_tokens=1000,
    num_prompt_tokens_cached=250,
)


def samples_of(metrics: Metrics) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
    text = metrics.render()[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_reply_is_counted() -> None:
    metrics = Metrics(list, lambda: 0)
    metrics.observe(an_exchange())
    samples = samples_of(metrics)

    def value(name: str, **labels: str) -> float:
        return samples[name, frozenset(labels.items())]

    assert value("hokku_http_requests_total", route="/v1/messages", status="200") == 1
    assert value("hokku_replies_total", model="haiku", tier="standard", outcome="succeeded") == 1
    kinds = {"input": 3, "cache_read": 100, "cache_write_5m": 20, "output": 5}
    assert {
        kind: value("hokku_tokens_total", model="haiku", tier="standard", kind=kind) for kind in kinds
    } == kinds
    assert value("hokku_time_to_first_token_seconds_sum", model="haiku") == 0.5
    assert value("hokku_time_to_first_token_seconds_bucket", model="haiku", le="0.5") == 1
    assert value("hokku_time_to_first_token_seconds_bucket", model="haiku", le="0.25") == 0
    assert value("hokku_time_per_output_token_seconds_sum", model="haiku") == 0.5  # four gaps in two seconds
    assert value("hokku_reply_seconds_sum", model="haiku", tier="standard") == 2.5
    assert value("hokku_reply_seconds_count", model="haiku", tier="standard") == 1


def test_requests_of_batches_are_counted_apart() -> None:
    metrics = Metrics(list, lambda: 0)
    metrics.observe(an_exchange())
    metrics.observe_batched(Conclusion("haiku", "succeeded", tokens={"input": 7, "output": 0}, secs=3.0))
    metrics.observe_batched(Conclusion("", "expired", 400))
    samples = samples_of(metrics)

    def value(name: str, model: str, **labels: str) -> float:
        return samples[name, frozenset({"model": model, "tier": "batch", **labels}.items())]

    assert value("hokku_replies_total", "haiku", outcome="succeeded") == 1
    assert value("hokku_replies_total", "", outcome="expired") == 400
    assert value("hokku_tokens_total", "haiku", kind="input") == 7
    assert value("hokku_reply_seconds_sum", "haiku") == 3.0
    kinds = {dict(labels)["kind"] for name, labels in samples if name == "hokku_tokens_total"}
    assert kinds == {"input", "cache_read", "cache_write_5m", "output"}


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [(an_exchange(error_type="api_error"), "errored"), (an_exchange(ends=False), "canceled")],
)
def test_how_a_reply_ended(exchange: Exchange, outcome: str) -> None:
    metrics = Metrics(list, lambda: 0)
    metrics.observe(exchange)
    samples = samples_of(metrics)
    labels = frozenset({("model", "haiku"), ("tier", "standard"), ("outcome", outcome)})
    assert samples["hokku_replies_total", labels] == 1
    errors = [labels for name, labels in samples if name == "hokku_errors_total"]
    assert errors == ([frozenset({("type", "api_error")})] if outcome == "errored" else [])


def test_the_engine_s_state() -> None:
    samples = samples_of(Metrics(lambda: [("haiku", STATS)], batch_backlog=lambda: 41))
    of_haiku = {name: value for (name, labels), value in samples.items() if ("model", "haiku") in labels}
    assert of_haiku == {
        "hokku_queue_requests": 2,
        "hokku_running_requests": 3,
        "hokku_kv_pages": 100,
        "hokku_kv_pages_used": 10,
        "hokku_kv_pages_cached": 30,
        "hokku_cache_entries": 0,
        "hokku_engine_steps_total": 7,
        "hokku_prompt_tokens_total": 1000,
        "hokku_prompt_tokens_cached_total": 250,
        "hokku_draft_tokens_total": 0,
        "hokku_draft_tokens_accepted_total": 0,
    }
    assert samples["hokku_batch_backlog_requests", frozenset()] == 41
    assert samples["process_resident_memory_bytes", frozenset()] > 0


def test_a_database_that_is_away_takes_only_its_own_number_away() -> None:
    def away() -> int:
        raise StorageUnavailable("The database is unavailable")

    samples = samples_of(Metrics(lambda: [("haiku", STATS)], away))
    assert ("hokku_batch_backlog_requests", frozenset()) not in samples
    assert samples["hokku_running_requests", frozenset({("model", "haiku")})] == 3


def test_openmetrics_for_those_who_ask() -> None:
    text, content_type = Metrics(list, lambda: 0).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
