"""What operators and their tools ask: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.headers import read_headers
from hokku.api.config import ApiConfig, MetricsAccess, Services
from hokku.protocol.errors import NotFound, PermissionDenied
from hokku.service.readiness import State

# Whoever sends one of these does not speak for this machine alone: a proxy that passes everything on, or a web page.
_FROM_ELSEWHERE = ("x-forwarded-for", "forwarded", "via", "origin")


def operations_routes(services: Services, config: ApiConfig) -> list[Route]:
    """`/` and `/api/hello` for agent CLIs that probe them, and what this file is about."""
    desk = OperationsDesk(services, config)
    return [
        Route("/", desk.root),
        Route("/api/hello", desk.hello),
        Route("/healthz", desk.healthz),
        Route("/readyz", desk.readyz),
        Route("/metrics", desk.metrics),
    ]


class OperationsDesk:
    """The endpoints."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    async def root(self, request: Request) -> Response:
        """`GET /`."""
        return _json({"name": "hokku"})

    async def hello(self, request: Request) -> Response:
        """`GET /api/hello`."""
        return _json({"name": "hokku"})

    async def healthz(self, request: Request) -> Response:
        """`GET /healthz`: whether this process is alive."""
        return _json({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`: whether requests should come here."""
        state = await self._services.readiness.state()
        return _json({"status": state}, 200 if state is State.READY else 503)

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`, in Prometheus's text format or OpenMetrics'."""
        metrics = self._services.metrics
        if metrics is None or self._config.metrics is MetricsAccess.OFF:
            raise NotFound("Not found")
        if not self._is_open_to(request):
            caller = await read_headers(request.headers, self._services.keys, self._config.compatibility)
            if caller.identity.role != "admin":
                raise PermissionDenied("this key may not read the metrics")
        # On a thread: the first time loads a library, and a batch backlog is counted in the database.
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(metrics.render, accept)
        return Response(body, headers={"content-type": content_type})

    def _is_open_to(self, request: Request) -> bool:
        match self._config.metrics:
            case MetricsAccess.OPEN:
                return True
            case MetricsAccess.THIS_MACHINE:
                return not any(name in request.headers for name in _FROM_ELSEWHERE)
            case _:
                return False


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status, media_type="application/json")
