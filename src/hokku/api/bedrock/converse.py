"""The runtime's endpoints Converse and ConverseStream (wire.md section 16.4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from hokku.api.bedrock.callers import Call, read_call
from hokku.api.bedrock.converse_body import AnswerForm, ConverseBody, read_converse_body, read_converse_prompt
from hokku.api.bedrock.converse_reply import ReplyTeller, StreamedConversation, WholeConversation
from hokku.api.bedrock.converse_rules import refuse_as_hosted
from hokku.api.bedrock.invoke import MAX_BODY_BYTES
from hokku.api.bedrock.invoke_body import parse_invoke_body
from hokku.api.bedrock.names import manifest_of
from hokku.api.body import check_body, content_encoding
from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.fallback import read_may_fall_back
from hokku.api.replies import ReplyResponse
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import MessagesRequest
from hokku.registry.manifest import Manifest
from hokku.service.booking import booked_if_refused
from hokku.service.replies import ReplyStream

# Which of the model's own bodies is meant; fields of it may be given in another one's form.
MODEL_BODY_VERSION = "bedrock-2023-05-31"


def converse_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Converse both ways."""
    endpoints = ConverseEndpoints(services, config)
    return [
        Route("/model/{model:path}/converse", endpoints.converse, methods=["POST"]),
        Route("/model/{model:path}/converse-stream", endpoints.stream, methods=["POST"]),
    ]


class ConverseEndpoints:
    """The endpoints. Each finds out who calls, then reads the path's model and the body."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config
        self._max_bytes = min(config.max_body_bytes, MAX_BODY_BYTES)

    async def converse(self, request: Request) -> ReplyResponse:
        """`POST /model/{id}/converse`."""
        stream, asked, teller = await self._reply(request)
        return WholeConversation(stream, asked, teller)

    async def stream(self, request: Request) -> ReplyResponse:
        """`POST /model/{id}/converse-stream`."""
        stream, asked, teller = await self._reply(request)
        return StreamedConversation(stream, asked, teller, self._config.ping_interval_secs)

    async def _reply(self, request: Request) -> tuple[ReplyStream, MessagesRequest, ReplyTeller]:
        call = await read_call(request, self._services.keys, self._max_bytes, self._services.book)
        name = request.scope["hokku.request_id"]
        with booked_if_refused(self._services.book, name, call.identity):
            model = request.path_params["model"]
            manifest = manifest_of(self._services.catalogue, model, self._config.compatibility)
            checked, form = await self._read(request, call, manifest)
        asked = replace(checked, id=name)
        with told_of_the_model():
            stream = await self._services.messages.reply(asked, call.identity)
        teller = ReplyTeller(form, request.scope["hokku.exchange"].began_at)
        return stream, asked, teller

    async def _read(
        self, request: Request, call: Call, manifest: Manifest
    ) -> tuple[MessagesRequest, AnswerForm]:
        may_fall_back = read_may_fall_back(request.headers)
        compatibility = self._config.compatibility

        def check(body: dict[str, Any]) -> tuple[MessagesRequest, AnswerForm]:
            return converse_request(body, manifest, compatibility, may_fall_back=may_fall_back)

        return await check_body(call.body, content_encoding(request), self._max_bytes, check)


def converse_request(
    body: dict[str, Any], manifest: Manifest, compatibility: Compatibility, *, may_fall_back: bool = True
) -> tuple[MessagesRequest, AnswerForm]:
    """What a body of Converse asks of the model, and how to answer it. Raises `InvalidRequest`."""
    read = read_converse_body(body)
    if compatibility is Compatibility.HOSTED:
        refuse_as_hosted(body)
    return model_request(read, manifest, compatibility, may_fall_back=may_fall_back), read.form


def counted_request(
    converse: object, path: str, manifest: Manifest, compatibility: Compatibility
) -> MessagesRequest:
    """What CountTokens is to count of its `converse`. Raises `InvalidRequest`."""
    return model_request(read_converse_prompt(converse, path), manifest, compatibility)


def model_request(
    read: ConverseBody, manifest: Manifest, compatibility: Compatibility, *, may_fall_back: bool = True
) -> MessagesRequest:
    """The request that a checked body makes of the model. Raises `InvalidRequest`."""
    own = {"anthropic_version": MODEL_BODY_VERSION, "max_tokens": manifest.max_output_tokens}
    with told_of_the_model():
        request = parse_invoke_body(
            {**own, **read.model_body}, manifest, compatibility, may_fall_back=may_fall_back
        )
    # Whoever sets no limit has not asked for more than the window has room for.
    return request if read.says_max_tokens else replace(request, window_overrun_allowed=True)


@contextmanager
def told_of_the_model() -> Iterator[None]:
    """Inside, what is refused is refused by what stands behind Converse, which says so."""
    try:
        yield
    except InvalidRequest as refusal:
        said = f"{refusal.place}: {refusal.message}" if refusal.place else refusal.message
        refusal.message = f"The model returned the following errors: {said}"
        refusal.place = None
        raise
