"""The OpenAI wire: its routes, its envelope and its headers (wire.md section 15).

`/v1/models` is the vendor's own route; it answers clients of this form as well.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.envelope import status_and_type
from hokku.api.config import ApiConfig, Services
from hokku.api.fallback import FALLBACK_HEADER, MODEL_HEADER
from hokku.api.openai.envelope import error_response
from hokku.api.openai.rate_headers import RATE_HEADERS
from hokku.api.openai.routes import openai_routes
from hokku.api.wire import Wire
from hokku.service.ids import request_id

API_VERSION = "2020-10-01"


class OpenAiWire(Wire):
    """Chats and texts."""

    prefixes = ("/v1/chat", "/v1/completions")
    exposed_headers = (
        "request-id",
        "x-request-id",
        "retry-after",
        "x-should-retry",
        MODEL_HEADER,
        FALLBACK_HEADER,
        *RATE_HEADERS,
    )

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    def routes(self) -> list[Route]:
        """See `Wire`."""
        return openai_routes(self._services, self._config)

    def new_request_id(self) -> str:
        """A `req_…`, as on Messages."""
        return request_id()

    def error_type(self, error: Exception) -> str:
        """The envelope's `error.type`."""
        return status_and_type(error)[1]

    def error_response(self, error: Exception, request_id: str, status: int | None = None) -> Response:
        """The envelope."""
        return error_response(error, request_id, status)

    def finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        """The request's id under the vendor's name and under the one that clients of this form read."""
        headers["request-id"] = headers["x-request-id"] = request_id
        headers["openai-version"] = API_VERSION
        headers["openai-processing-ms"] = ""  # always empty on the vendor's layer
