"""Messages as Amazon Bedrock serves them: the routes, the errors and the headers of that wire (wire.md section 16)."""

from __future__ import annotations

import uuid

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.bedrock.control import control_routes
from hokku.api.bedrock.converse import converse_routes
from hokku.api.bedrock.counting import counting_routes
from hokku.api.bedrock.errors import error_response, status_and_name
from hokku.api.bedrock.invoke import invoke_routes
from hokku.api.bedrock.jobs import job_routes
from hokku.api.config import ApiConfig, Services
from hokku.api.fallback import FALLBACK_HEADER, MODEL_HEADER
from hokku.api.wire import Wire

REQUEST_ID_HEADER = "x-amzn-requestid"


class BedrockWire(Wire):
    """The form of the answers, and the table of routes."""

    prefixes = (
        "/model",
        "/foundation-models",
        "/inference-profiles",
        "/model-invocation-job",
        "/model-invocation-jobs",
    )
    exposed_headers = (REQUEST_ID_HEADER, "x-amzn-errortype", "retry-after", MODEL_HEADER, FALLBACK_HEADER)

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    def routes(self) -> list[Route]:
        """See `Wire`."""
        services, config = self._services, self._config
        return [
            *invoke_routes(services, config),
            *converse_routes(services, config),
            *counting_routes(services, config),
            *control_routes(services, config),
            *job_routes(services, config),
        ]

    def new_request_id(self) -> str:
        """A UUID, as everywhere in AWS."""
        return str(uuid.uuid4())

    def error_type(self, error: Exception) -> str:
        """The exception's name."""
        return status_and_name(error)[1]

    def error_response(self, error: Exception, request_id: str, status: int | None = None) -> Response:
        """A sentence in the body, and the exception's name in a header."""
        return error_response(error, status)

    def finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        """The request's id."""
        headers[REQUEST_ID_HEADER] = request_id
