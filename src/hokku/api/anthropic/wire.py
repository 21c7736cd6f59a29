"""The vendor's own wire: its routes, its envelope and its headers (wire.md sections 1.3 and 1.4)."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.admin import admin_routes
from hokku.api.anthropic.batches import batch_routes
from hokku.api.anthropic.envelope import error_response, status_and_type
from hokku.api.anthropic.files import file_routes
from hokku.api.anthropic.rate_headers import RATE_HEADERS
from hokku.api.anthropic.routes import messages_routes
from hokku.api.config import ApiConfig, Services
from hokku.api.fallback import FALLBACK_HEADER, MODEL_HEADER
from hokku.api.wire import Wire
from hokku.service.ids import request_id


class AnthropicWire(Wire):
    """Messages and all that is around them."""

    prefixes = ()
    exposed_headers = (
        "request-id",
        "anthropic-organization-id",
        "anthropic-workspace-id",
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
        return [
            *messages_routes(self._services, self._config),
            *batch_routes(self._services, self._config),
            *file_routes(self._services, self._config),
            *admin_routes(self._services, self._config),
        ]

    def new_request_id(self) -> str:
        """A `req_…`."""
        return request_id()

    def error_type(self, error: Exception) -> str:
        """The envelope's `error.type`."""
        return status_and_type(error)[1]

    def error_response(self, error: Exception, request_id: str, status: int | None = None) -> Response:
        """The envelope."""
        return error_response(error, request_id, status)

    def finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        """The request's id, and whose server this is."""
        headers["request-id"] = request_id
        headers["anthropic-organization-id"] = self._config.organization_id
