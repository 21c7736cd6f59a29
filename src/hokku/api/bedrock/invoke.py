"""The runtime's endpoints around InvokeModel (wire.md sections 16.2 and 16.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route

from hokku.api.anthropic.fields import refuse
from hokku.api.bedrock.callers import Call, read_call
from hokku.api.bedrock.invoke_body import parse_invoke_body
from hokku.api.bedrock.invoke_replies import StreamedInvocation, WholeInvocation
from hokku.api.bedrock.names import manifest_of
from hokku.api.body import check_body, content_encoding
from hokku.api.config import ApiConfig, Services
from hokku.api.fallback import read_may_fall_back
from hokku.api.replies import ReplyResponse
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import MessagesRequest
from hokku.registry.manifest import Manifest
from hokku.service.booking import booked_if_refused
from hokku.service.replies import ReplyStream

MAX_BODY_BYTES = 25_000_000
# Headers that choose among things of which there is one here. They are echoed, as the hosted service does.
ECHOED = {
    "x-amzn-bedrock-performanceconfig-latency": ("standard", "optimized"),
    "x-amzn-bedrock-service-tier": ("priority", "default", "flex", "reserved"),
}
# boto3 names none where it is not told, and AWS's SDK for JavaScript that of bytes; the body is JSON all the same.
CONTENT_TYPES = ("application/json", "application/octet-stream", "*/*")
GUARDRAIL_HEADER = "x-amzn-bedrock-guardrailidentifier"
TRACE_HEADER = "x-amzn-bedrock-trace"
TRACES = ("ENABLED", "DISABLED", "ENABLED_FULL")  # of guardrails, of which there are none


def invoke_routes(services: Services, config: ApiConfig) -> list[Route]:
    """InvokeModel both ways."""
    endpoints = InvokeEndpoints(services, config)
    return [
        Route("/model/{model:path}/invoke", endpoints.invoke, methods=["POST"]),
        Route("/model/{model:path}/invoke-with-response-stream", endpoints.stream, methods=["POST"]),
    ]


class InvokeEndpoints:
    """The endpoints. Each finds out who calls, then reads the path's model, the headers and the body."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config
        self._max_bytes = min(config.max_body_bytes, MAX_BODY_BYTES)

    async def invoke(self, request: Request) -> ReplyResponse:
        """`POST /model/{id}/invoke`."""
        stream, headers, asked = await self._reply(request, is_streamed=False)
        return WholeInvocation(stream, headers, asked, request.scope["hokku.exchange"].began_at)

    async def stream(self, request: Request) -> ReplyResponse:
        """`POST /model/{id}/invoke-with-response-stream`."""
        stream, headers, asked = await self._reply(request, is_streamed=True)
        began_at = request.scope["hokku.exchange"].began_at
        return StreamedInvocation(stream, headers, asked, self._config.ping_interval_secs, began_at)

    async def _reply(
        self, request: Request, *, is_streamed: bool
    ) -> tuple[ReplyStream, dict[str, str], MessagesRequest]:
        """The reply under way, the headers to answer with, and what was asked."""
        call = await read_call(request, self._services.keys, self._max_bytes, self._services.book)
        name = request.scope["hokku.request_id"]
        with booked_if_refused(self._services.book, name, call.identity):
            manifest = self._model_of(request)
            headers = read_invoke_headers(request.headers)
            asked = replace(await self._read(request, call, manifest), id=name)
            if is_streamed and asked.max_tokens == 0:  # the path says here what `stream` says elsewhere
                refuse("max_tokens", "0 cannot be combined with `stream`")
        stream = await self._services.messages.reply(asked, call.identity)
        return stream, headers, asked

    async def _read(self, request: Request, call: Call, manifest: Manifest) -> MessagesRequest:
        may_fall_back = read_may_fall_back(request.headers)
        compatibility = self._config.compatibility

        def check(body: dict[str, Any]) -> MessagesRequest:
            return parse_invoke_body(body, manifest, compatibility, may_fall_back=may_fall_back)

        return await check_body(call.body, content_encoding(request), self._max_bytes, check)

    def _model_of(self, request: Request) -> Manifest:
        name = request.path_params["model"]
        return manifest_of(self._services.catalogue, name, self._config.compatibility)


def read_invoke_headers(headers: Headers) -> dict[str, str]:
    """What of the request's headers is said again in the answer. Raises `InvalidRequest` for what cannot be done."""
    content_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type not in CONTENT_TYPES:
        refuse("contentType", "Input should be 'application/json'")
    if GUARDRAIL_HEADER in headers:
        # What has to be guarded must not be answered unguarded.
        raise InvalidRequest("The guardrail identifier or version provided in the request does not exist.")
    _one_of(headers, TRACE_HEADER, TRACES)
    echoed = {name: _one_of(headers, name, choices) for name, choices in ECHOED.items()}
    return {name: value for name, value in echoed.items() if value is not None}


def _one_of(headers: Headers, name: str, choices: tuple[str, ...]) -> str | None:
    value = headers.get(name)
    if value is not None and value not in choices:
        refuse(name, f"Input should be one of {', '.join(choices)}")
    return value
