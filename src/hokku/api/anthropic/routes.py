"""Stop 1 of a request: where `POST /v1/messages` comes in, and where its reply leaves.

Comes from the client by way of the front door (`api/http.py`); goes on to stop 2, `service/messages.py`. On
the way back `replies.py` beside this file turns reply events into bytes, and `envelope.py` errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.complete_body import parse_complete_body, refuse_where_hosted
from hokku.api.anthropic.completions import StreamedCompletion, WholeCompletion
from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.headers import (
    Caller,
    authenticate,
    is_openai_client,
    read_call,
    read_headers,
)
from hokku.api.anthropic.messages_body import parse_count_body, parse_messages_body
from hokku.api.anthropic.models import (
    MAX_PAGE,
    PageQuery,
    model_for_both,
    model_object,
    model_page,
    page_for_both,
    read_page_query,
)
from hokku.api.anthropic.rate_headers import rate_headers
from hokku.api.anthropic.replies import StreamedMessage, WholeMessage
from hokku.api.body import read_body
from hokku.api.config import ApiConfig, Services
from hokku.api.replies import ReplyResponse
from hokku.protocol.errors import InvalidRequest
from hokku.service.booking import booked_if_refused
from hokku.service.call_limits import Calls

T = TypeVar("T")


def messages_routes(services: Services, config: ApiConfig) -> list[Route]:
    """The routes of Messages, of what was before them, and of models."""
    endpoints = MessagesEndpoints(services, config)
    return [
        Route("/v1/messages", endpoints.messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", endpoints.count_tokens, methods=["POST"]),
        Route("/v1/complete", endpoints.complete, methods=["POST"]),
        Route("/v1/models", endpoints.models, methods=["GET"]),
        Route("/v1/models/{name:path}", endpoints.model, methods=["GET"]),
    ]


class MessagesEndpoints:
    """The endpoints. Each checks headers first, then the body, then asks a service."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    async def messages(self, request: Request) -> ReplyResponse:
        """`POST /v1/messages`, whole or streamed."""
        caller = await self._caller(request)
        with self._booked_if_refused(request, caller):
            checked = await self._read(request, parse_messages_body, caller)
            checked.prompt.refuse_unserved(self._services.catalogue.manifest(checked.prompt.model).id)
        asked = replace(checked.request, id=request.scope["hokku.request_id"])
        stream = await self._services.messages.reply(asked, caller.identity)
        headers = caller.answer_headers | rate_headers(stream.rate_levels)
        if checked.stream:
            return StreamedMessage(stream, headers, asked, self._config.ping_interval_secs)
        return WholeMessage(stream, headers, asked)

    async def count_tokens(self, request: Request) -> Response:
        """`POST /v1/messages/count_tokens`."""
        caller = await read_call(request.headers, self._services, self._config, Calls.COUNTING)
        prompt = await self._read(request, parse_count_body, caller)
        prompt.refuse_unserved(self._services.catalogue.manifest(prompt.model).id)
        num_tokens = await self._services.messages.count(prompt.model, prompt.conversation, caller.identity)
        return _json({"input_tokens": num_tokens}, caller.answer_headers)

    async def complete(self, request: Request) -> ReplyResponse:
        """`POST /v1/complete`, the endpoint before Messages, whole or streamed."""
        caller = await self._caller(request)
        with self._booked_if_refused(request, caller):
            checked = await self._read(request, parse_complete_body, caller)
            manifest = self._services.catalogue.manifest(checked.request.model)
            refuse_where_hosted(manifest.id, caller.dialect)
        asked = replace(checked.request, id=request.scope["hokku.request_id"])
        try:
            stream = await self._services.messages.reply(asked, caller.identity)
        except InvalidRequest as refusal:
            if refusal.place == "max_tokens":  # as Messages calls it
                refusal.place = "max_tokens_to_sample"
            raise
        headers = caller.answer_headers | rate_headers(stream.rate_levels)
        if checked.stream:
            return StreamedCompletion(stream, headers, asked, self._config.ping_interval_secs)
        return WholeCompletion(stream, headers, asked)

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        if is_openai_client(request.headers):
            answer_headers = await self._openai_headers(request)
            page = self._page(read_page_query(request.query_params, default_limit=MAX_PAGE))
            return _json(page_for_both(page), answer_headers)
        caller = await self._caller(request)
        return _json(self._page(read_page_query(request.query_params)), caller.answer_headers)

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/{id or alias}`."""
        if is_openai_client(request.headers):
            answer_headers = await self._openai_headers(request)
            return _json(model_for_both(self._model(request)), answer_headers)
        caller = await self._caller(request)
        return _json(self._model(request), caller.answer_headers)

    def _page(self, query: PageQuery) -> dict[str, Any]:
        return model_page(self._services.catalogue, query, self._config.compatibility)

    def _model(self, request: Request) -> dict[str, Any]:
        catalogue = self._services.catalogue
        manifest = catalogue.manifest(request.path_params["name"])
        window_tokens = catalogue.context_window_tokens(manifest)
        return model_object(manifest, window_tokens, self._config.compatibility)

    async def _openai_headers(self, request: Request) -> dict[str, str]:
        """What a caller is told who has a good key, and names no version; the request's id once more, where clients of
        OpenAI's form look for it."""
        identity = await authenticate(request.headers, self._services.keys)
        named = {"x-request-id": request.scope["hokku.request_id"]}
        return {"anthropic-workspace-id": identity.workspace_id, **named}

    async def _read(
        self, request: Request, parse: Callable[[dict[str, Any], Dialect], T], caller: Caller
    ) -> T:
        return await read_body(request, self._config.max_body_bytes, lambda body: parse(body, caller.dialect))

    def _booked_if_refused(self, request: Request, caller: Caller) -> AbstractContextManager[None]:
        return booked_if_refused(self._services.book, request.scope["hokku.request_id"], caller.identity)

    async def _caller(self, request: Request) -> Caller:
        return await read_headers(request.headers, self._services.keys, self._config.compatibility)


def _json(value: object, headers: dict[str, str]) -> Response:
    return Response(json.dumps(value), 200, headers, "application/json")
