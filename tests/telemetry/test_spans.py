"""Spans: the conventions' names, the caller's trace, and nothing where nobody asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hokku.protocol.errors import BadSetting
from hokku.protocol.exchange import NO_ROUTE, Exchange
from hokku.telemetry.spans import Spans, asked_for, spans_to_exporter
from tests.telemetry.exchanges import an_exchange


def spans_of(*exchanges: Exchange) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider)
    for exchange in exchanges:
        spans.observe(exchange)
    found = exporter.get_finished_spans()
    spans.close()
    return found


def test_a_reply_is_a_span() -> None:
    (span,) = spans_of(an_exchange())
    assert (span.name, span.kind) == ("chat haiku-latest", SpanKind.SERVER)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 2_500_000_000
    assert span.parent is None
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/messages",
        "http.response.status_code": 200,
        "hokku.request_id": "req_1",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hokku",
        "gen_ai.request.model": "haiku-latest",
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "haiku",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 123,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_creation.input_tokens": 20,
        "gen_ai.usage.output_tokens": 5,
    }


def test_the_caller_s_trace_goes_on() -> None:
    exchange = an_exchange()
    exchange.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    (span,) = spans_of(exchange)
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-zz-zz-01"])
def test_a_traceparent_that_is_none_begins_a_trace(traceparent: str) -> None:
    exchange = an_exchange()
    exchange.traceparent = traceparent
    (span,) = spans_of(exchange)
    assert span.parent is None


def test_whose_error_it_was() -> None:
    refused = Exchange("req_2", "GET", "/v1/models", status=401, error_type="authentication_error")
    refused.end("/v1/models")
    refusal, failure = spans_of(refused, an_exchange(error_type="api_error"))
    assert refusal.name == "GET /v1/models"
    assert refusal.status.status_code is StatusCode.UNSET
    assert failure.status.status_code is StatusCode.ERROR
    assert dict(failure.attributes or {})["error.type"] == "api_error"


@pytest.mark.parametrize(
    ("route", "operation"),
    [
        ("/v1/complete", "text_completion"),
        ("/v1/completions", "text_completion"),
        ("/v1/chat/completions", "chat"),
        ("/model/{model:path}/converse", "chat"),
    ],
)
def test_replies_of_every_wire_are_spans(route: str, operation: str) -> None:
    exchange = an_exchange()
    exchange.end(route)
    (span,) = spans_of(exchange)
    assert span.name == f"{operation} haiku-latest"


@pytest.mark.parametrize("route", ["/readyz", "/", NO_ROUTE])
def test_probes_have_none(route: str) -> None:
    probe = Exchange("req_2", "GET", route, status=200)
    probe.end(route)
    assert not spans_of(probe)


def test_a_seed_is_told() -> None:
    exchange = an_exchange()
    assert exchange.reply
    exchange.reply.asked = replace(exchange.reply.asked, seed=7)
    (span,) = spans_of(exchange)
    assert dict(span.attributes or {})["gen_ai.request.seed"] == 7


@pytest.mark.parametrize(
    ("environ", "asks"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_what_asks_for_spans(environ: dict[str, str], asks: bool) -> None:
    assert asked_for(environ) is asks


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
def test_what_is_not_known_is_refused(environ: dict[str, str], place: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        spans_to_exporter(environ)
    assert refusal.value.place == place


def test_the_exporter_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    spans = spans_to_exporter({"OTEL_TRACES_EXPORTER": "otlp"})
    assert spans.provider.resource.attributes["service.name"] == "hokku"
    spans.close()


def test_without_the_library_one_is_told_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from hokku.telemetry.spans import spans_to_exporter\n"
        "from hokku.protocol.errors import BadSetting\n"
        "try: spans_to_exporter({'OTEL_TRACES_EXPORTER': 'otlp'})\n"
        "except BadSetting as refusal: print(refusal)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "hokku-llm[otel]" in told.stdout
