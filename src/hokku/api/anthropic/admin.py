"""The Admin API: what an administrator's key may ask about the whole installation (wire.md section 11)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.headers import read_headers
from hokku.api.anthropic.reports import cost_report, read_cost_query, read_usage_query, usage_report
from hokku.api.config import ApiConfig, Services
from hokku.protocol.errors import PermissionDenied


def admin_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Every route of the Admin API."""
    wire = AdminWire(services, config)
    return [
        Route("/v1/organizations/me", wire.me, methods=["GET"]),
        Route("/v1/organizations/usage_report/messages", wire.usage, methods=["GET"]),
        Route("/v1/organizations/cost_report", wire.costs, methods=["GET"]),
    ]


class AdminWire:
    """The endpoints. Each asks for an administrator first."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config

    async def me(self, request: Request) -> Response:
        """`GET /v1/organizations/me`."""
        await self._admin(request)
        return _json({"id": self._config.organization_id, "type": "organization", "name": "Hokku"})

    async def usage(self, request: Request) -> Response:
        """`GET /v1/organizations/usage_report/messages`."""
        await self._admin(request)
        asked = read_usage_query(request.query_params, datetime.now(UTC))
        return _json(usage_report(asked, await self._services.reports.usage(asked.query)))

    async def costs(self, request: Request) -> Response:
        """`GET /v1/organizations/cost_report`."""
        await self._admin(request)
        asked = read_cost_query(request.query_params, datetime.now(UTC))
        return _json(cost_report(asked, await self._services.reports.costs(asked.query)))

    async def _admin(self, request: Request) -> None:
        caller = await read_headers(request.headers, self._services.keys, self._config.compatibility)
        if caller.identity.role != "admin":
            raise PermissionDenied("this key may not use the Admin API")


def _json(value: object) -> Response:
    return Response(json.dumps(value), 200, media_type="application/json")
