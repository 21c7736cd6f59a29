"""One OpenTelemetry span for each exchange, with the semantic conventions for generative AI
(opentelemetry.io/docs/specs/semconv/gen-ai), as a child of the caller's own span where the request brings a
`traceparent`. It holds no text of either side.

The usual variables switch it on: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`), or `OTEL_TRACES_EXPORTER`.
Without them nothing of OpenTelemetry is loaded. A span is made when its exchange is over, from the record that metrics
and logs read too. Probes and scrapes have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hokku.protocol.errors import BadSetting
from hokku.protocol.exchange import NO_ROUTE, Exchange, ReplyWatch

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.util.types import AttributeValue

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def asked_for(environ: Mapping[str, str]) -> bool:
    """Whether these variables ask for spans."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    return exporter != "none" and bool(exporter or any(environ.get(name) for name in _ENDPOINTS))


def spans_to_exporter(environ: Mapping[str, str]) -> Spans:
    """Spans on their way to where these variables say. Raises `BadSetting` for what is not installed or not known."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(environ)
    except ModuleNotFoundError as cause:
        raise BadSetting(
            f"asks for spans, but {cause.name} is not installed",
            place="OTEL_TRACES_EXPORTER",
            way_out="pip install 'hokku-llm[otel]', or set it to none",
        ) from cause
    is_named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    # The variables for resources, sampling and batches are read by the library itself.
    provider = TracerProvider(resource=Resource.create({} if is_named else {"service.name": "hokku"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Spans(provider)


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    name = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name != "otlp":
        raise BadSetting(
            f"{name!r} is not known", place="OTEL_TRACES_EXPORTER", way_out="otlp, console or none"
        )
    for place in _PROTOCOLS:
        if (environ.get(place) or "http/protobuf") != "http/protobuf":
            raise BadSetting(
                f"{environ[place]!r} is not served", place=place, way_out="set it to http/protobuf"
            )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


# Whoever asks these wants to know whether the server is there, every few seconds; or nobody knows what it wants.
_PROBES = frozenset({"/", "/api/hello", "/healthz", "/readyz", "/metrics", NO_ROUTE})
_TEXTS = frozenset({"/v1/complete", "/v1/completions"})


@dataclass(frozen=True, slots=True)
class Spans:
    """Exchanges as spans of one provider."""

    provider: TracerProvider

    def observe(self, exchange: Exchange) -> None:
        """Make the span of an exchange that has ended."""
        if exchange.route in _PROBES:
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": exchange.traceparent, "tracestate": exchange.tracestate}
        span = self.provider.get_tracer("hokku").start_span(
            _name(exchange),
            TraceContextTextMapPropagator().extract(carrier),
            SpanKind.SERVER,
            _attributes(exchange),
            start_time=exchange.began_at_ns,
        )
        if exchange.error_type is not None and (exchange.status >= 500 or exchange.status == 200):
            span.set_status(StatusCode.ERROR)  # a refusal is the caller's error, not this server's
        span.end(exchange.began_at_ns + int(exchange.secs * 1e9))

    def close(self) -> None:
        """Send what is waiting."""
        self.provider.shutdown()


def _name(exchange: Exchange) -> str:
    if exchange.reply is not None:
        return f"{_operation(exchange)} {exchange.reply.asked.model}"
    return f"{exchange.method} {exchange.route}"


def _operation(exchange: Exchange) -> str:
    return "text_completion" if exchange.route in _TEXTS else "chat"


def _attributes(exchange: Exchange) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue | None] = {
        "http.request.method": exchange.method,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status or None,
        "error.type": exchange.error_type,
        "hokku.request_id": exchange.request_id,
    }
    if exchange.reply is not None:
        attributes["gen_ai.operation.name"] = _operation(exchange)
        attributes |= _of_reply(exchange.reply, exchange.first_token_secs)
    return {name: value for name, value in attributes.items() if value is not None}


def _of_reply(reply: ReplyWatch, first_token_secs: float | None) -> dict[str, AttributeValue | None]:
    asked, usage = reply.asked, reply.usage
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return {
        "gen_ai.provider.name": "hokku",
        "gen_ai.request.model": asked.model,
        "gen_ai.request.max_tokens": asked.max_tokens,
        "gen_ai.request.temperature": asked.sampling.temperature if asked.sampling else None,
        "gen_ai.request.top_p": asked.sampling.top_p if asked.sampling else None,
        "gen_ai.request.top_k": asked.sampling.top_k if asked.sampling else None,
        "gen_ai.request.seed": asked.seed,
        "gen_ai.request.stream": reply.is_streamed,
        "gen_ai.response.id": reply.message_id or None,
        "gen_ai.response.model": reply.model_id,
        "gen_ai.response.finish_reasons": [reply.stop_reason] if reply.stop_reason else None,
        "gen_ai.response.time_to_first_chunk": first_token_secs,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,  # those read from and written to the cache included
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": written,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
