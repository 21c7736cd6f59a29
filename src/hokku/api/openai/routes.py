"""Where chats and texts of the OpenAI form come in. From here on they go the way of every request: on to stop 2,
`service/messages.py`; `replies.py` beside this file turns reply events into chunks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from starlette.requests import Request
from starlette.routing import Route

from hokku.api.body import read_body
from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.fallback import read_may_fall_back
from hokku.api.openai.chat_body import parse_chat_body
from hokku.api.openai.completion_body import parse_completion_body
from hokku.api.openai.envelope import in_this_form
from hokku.api.openai.headers import authenticate
from hokku.api.openai.rate_headers import rate_headers
from hokku.api.openai.replies import StreamedChat, StreamedCompletion, WholeChat, WholeCompletion
from hokku.api.replies import ReplyResponse
from hokku.protocol.errors import NotFound
from hokku.service.booking import booked_if_refused
from hokku.service.keys import Identity


def openai_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Every route of this wire."""
    endpoints = OpenAiEndpoints(services, config)
    return [
        Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
        Route("/v1/completions", endpoints.complete, methods=["POST"]),
    ]


class OpenAiEndpoints:
    """The endpoints. Each checks the key first, then the body, then asks a service."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    async def chat(self, request: Request) -> ReplyResponse:
        """`POST /v1/chat/completions`, whole or streamed."""
        identity = await authenticate(request.headers, self._services.keys)
        may_fall_back = read_may_fall_back(request.headers)
        compatibility = self._config.compatibility
        with self._booked_if_refused(request, identity):
            checked = await read_body(
                request, self._config.max_body_bytes, lambda body: parse_chat_body(body, compatibility)
            )
            manifest = self._services.catalogue.manifest(checked.request.model)
        asked = replace(
            checked.request_to(manifest), id=request.scope["hokku.request_id"], may_fall_back=may_fall_back
        )
        limit_field = checked.limit.field if checked.limit else "max_completion_tokens"
        is_older = checked.uses_functions
        with in_this_form(limit_field, has_functions=is_older):
            stream = await self._services.messages.reply(asked, identity)
        headers = rate_headers(stream.rate_levels)
        if not checked.delivery.stream:
            return WholeChat(stream, headers, asked, uses_functions=is_older)
        return StreamedChat(
            stream,
            headers,
            asked,
            self._config.ping_interval_secs,
            include_usage=checked.delivery.include_usage,
            uses_functions=is_older,
        )

    async def complete(self, request: Request) -> ReplyResponse:
        """`POST /v1/completions`, whole or streamed. The vendor's layer does not have it."""
        if self._config.compatibility is Compatibility.HOSTED:
            raise NotFound("Not found")
        identity = await authenticate(request.headers, self._services.keys)
        may_fall_back = read_may_fall_back(request.headers)
        with self._booked_if_refused(request, identity):
            checked = await read_body(request, self._config.max_body_bytes, parse_completion_body)
            self._services.catalogue.manifest(checked.request.model)
        asked = replace(checked.request, id=request.scope["hokku.request_id"], may_fall_back=may_fall_back)
        stream = await self._services.messages.reply(asked, identity)
        headers = rate_headers(stream.rate_levels)
        if not checked.delivery.stream:
            return WholeCompletion(stream, headers, asked, echoed=checked.echoed)
        return StreamedCompletion(
            stream,
            headers,
            asked,
            self._config.ping_interval_secs,
            include_usage=checked.delivery.include_usage,
            echoed=checked.echoed,
        )

    def _booked_if_refused(self, request: Request, identity: Identity) -> AbstractContextManager[None]:
        return booked_if_refused(self._services.book, request.scope["hokku.request_id"], identity)
