"""Messages as Google's Vertex AI serves them (wire.md section 17)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.envelope import error_response, status_and_type
from hokku.api.anthropic.replies import StreamedMessage, WholeMessage
from hokku.api.body import read_body
from hokku.api.cloud_ids import marked_events, marked_id, marked_reply
from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.credentials import bearer_token
from hokku.api.fallback import FALLBACK_HEADER, MODEL_HEADER
from hokku.api.replies import ReplyResponse
from hokku.api.vertex.body import VertexReader, manifest_of
from hokku.api.vertex.errors import google_response, google_status
from hokku.api.vertex.tokens import TokenExchange
from hokku.api.wire import Wire
from hokku.protocol.errors import AuthenticationFailed, NotFound
from hokku.protocol.events import Reply, ReplyEvent
from hokku.registry.manifest import Manifest
from hokku.service.booking import booked_if_refused
from hokku.service.call_limits import Calls
from hokku.service.ids import request_id
from hokku.service.keys import Identity

MARK = "vrtx"
MAX_HOSTED_BYTES = 30 * 1024 * 1024
# Clients are given the address with the API's version or without; the last one of them names the route in metrics.
BASES = ("", "/v1beta1", "/v1")
MODELS = "/projects/{project}/locations/{location}/publishers/anthropic/models"


class VertexWire(Wire):
    """The form of the answers, and the table of routes."""

    prefixes = (*(f"{base}/projects" for base in BASES), "/v1/token")
    exposed_headers = ("request-id", "retry-after", "x-should-retry", MODEL_HEADER, FALLBACK_HEADER)

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._endpoints = VertexEndpoints(services, config)
        self._tokens = TokenExchange(services.keys)

    def routes(self) -> list[Route]:
        """See `Wire`."""
        endpoints = self._endpoints
        exchange = Route("/v1/token", self._tokens.exchange, methods=["POST"])
        return [exchange] + [
            route
            for base in BASES
            for route in (
                Route(f"{base}{MODELS}/count-tokens:rawPredict", endpoints.count_tokens, methods=["POST"]),
                Route(f"{base}{MODELS}/{{model:path}}:rawPredict", endpoints.predict, methods=["POST"]),
                Route(f"{base}{MODELS}/{{model:path}}:streamRawPredict", endpoints.stream, methods=["POST"]),
            )
        ]

    def new_request_id(self) -> str:
        """A `req_vrtx_…`."""
        return marked_id(request_id(), MARK)

    def error_type(self, error: Exception) -> str:
        """Google's word, or the envelope's."""
        google = google_status(error)
        return google[1] if google else status_and_type(error)[1]

    def error_response(self, error: Exception, request_id: str, status: int | None = None) -> Response:
        """Google's form, or the envelope."""
        google = google_status(error)
        return google_response(error, *google) if google else error_response(error, request_id, status)

    def finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        """The request's id."""
        headers["request-id"] = request_id


class _WholePrediction(WholeMessage):
    """One JSON message, with this cloud's ids."""

    def _object(self, reply: Reply) -> dict[str, Any]:
        return super()._object(marked_reply(reply, MARK))


class _StreamedPrediction(StreamedMessage):
    """The events of a message, with this cloud's ids."""

    def _frames(self, events: list[ReplyEvent]) -> bytes:
        return super()._frames(marked_events(events, MARK))


class VertexEndpoints:
    """The endpoints. Each checks the credential first, then the path's model, then headers and body."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config
        is_hosted = config.compatibility is Compatibility.HOSTED
        self._max_bytes = min(config.max_body_bytes, MAX_HOSTED_BYTES) if is_hosted else config.max_body_bytes

    async def predict(self, request: Request) -> ReplyResponse:
        """`POST …/{model}:rawPredict`. The body alone says whether the reply is streamed, with either verb."""
        identity = await self._authenticate(request)
        name = request.scope["hokku.request_id"]
        with booked_if_refused(self._services.book, name, identity):
            manifest = self._model_of(request)
            reader = VertexReader(request.headers, self._config.compatibility)
            checked = await read_body(request, self._max_bytes, lambda body: reader.message(body, manifest))
        asked = replace(checked.request, id=name)
        stream = await self._services.messages.reply(asked, identity)
        if checked.stream:
            return _StreamedPrediction(stream, {}, asked, self._config.ping_interval_secs)
        return _WholePrediction(stream, {}, asked)

    async def stream(self, request: Request) -> ReplyResponse:
        """`POST …/{model}:streamRawPredict`."""
        return await self.predict(request)

    async def count_tokens(self, request: Request) -> Response:
        """`POST …/count-tokens:rawPredict`, which names the model in its body."""
        identity = await self._authenticate(request)
        if self._services.call_limits is not None:
            await self._services.call_limits.admit(identity, Calls.COUNTING)
        reader = VertexReader(request.headers, self._config.compatibility)
        catalogue = self._services.catalogue
        prompt, manifest = await read_body(
            request, self._max_bytes, lambda body: reader.prompt(body, catalogue)
        )
        num_tokens = await self._services.messages.count(manifest.id, prompt.conversation, identity)
        return Response(json.dumps({"input_tokens": num_tokens}), media_type="application/json")

    async def _authenticate(self, request: Request) -> Identity:
        """Whose key the bearer token is: one of Hokku's, in the place of Google's."""
        token = bearer_token(request.headers)
        identity = await self._services.keys.identify(token)
        if identity is None:
            said = "is missing a required" if token is None else "had an invalid"
            raise AuthenticationFailed(
                f"Request {said} authentication credential. Expected an API key of this server as bearer token."
            )
        return identity

    def _model_of(self, request: Request) -> Manifest:
        path = request.path_params
        try:
            return manifest_of(self._services.catalogue, path["model"])
        except NotFound:
            resource = MODELS[1:].format(**path) + "/" + path["model"]
            raise NotFound(
                f"Publisher Model `{resource}` was not found or your project does not have access to it. "
                "Please ensure you are using a valid model version."
            ) from None
