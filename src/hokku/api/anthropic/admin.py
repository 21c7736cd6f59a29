"""The Admin API: what an administrator's key may ask about the whole installation (wire.md section 11)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.admin_objects import (
    filtered_keys,
    key_object,
    listed,
    read_key_change,
    read_workspace_name,
    workspace_object,
)
from hokku.api.anthropic.headers import Caller, read_headers
from hokku.api.anthropic.rate_limit_objects import organization_limits, workspace_limits
from hokku.api.anthropic.reports import cost_report, read_cost_query, read_usage_query, usage_report
from hokku.api.body import read_body
from hokku.api.config import ApiConfig, Services
from hokku.protocol.errors import PermissionDenied
from hokku.protocol.records import Workspace

_MOST_BODY_BYTES = 1 << 16
NOBODY: tuple[Workspace, ...] = ()


def admin_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Every route of the Admin API."""
    wire = AdminWire(services, config)
    workspaces, keys = "/v1/organizations/workspaces", "/v1/organizations/api_keys"
    return [
        Route("/v1/organizations/me", wire.me, methods=["GET"]),
        Route(workspaces, wire.workspaces, methods=["GET"]),
        Route(workspaces, wire.make_workspace, methods=["POST"]),
        Route(f"{workspaces}/{{id}}", wire.workspace, methods=["GET"]),
        Route(f"{workspaces}/{{id}}", wire.rename_workspace, methods=["POST"]),
        Route(f"{workspaces}/{{id}}/archive", wire.archive_workspace, methods=["POST"]),
        Route(f"{workspaces}/{{id}}/rate_limits", wire.rate_limits_of_workspace, methods=["GET"]),
        Route("/v1/organizations/rate_limits", wire.rate_limits, methods=["GET"]),
        Route(keys, wire.keys, methods=["GET"]),
        Route(f"{keys}/{{id}}", wire.key, methods=["GET"]),
        Route(f"{keys}/{{id}}", wire.change_key, methods=["POST"]),
        Route("/v1/organizations/users", wire.users, methods=["GET"]),
        Route("/v1/organizations/invites", wire.invites, methods=["GET"]),
        Route("/v1/organizations/usage_report/messages", wire.usage, methods=["GET"]),
        Route("/v1/organizations/cost_report", wire.costs, methods=["GET"]),
    ]


class AdminWire:
    """The endpoints. Each asks for an administrator first."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._administration = services.administration
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

    async def workspaces(self, request: Request) -> Response:
        """`GET /v1/organizations/workspaces`."""
        await self._admin(request)
        with_archived = request.query_params.get("include_archived") == "true"
        found = await self._administration.workspaces(with_archived=with_archived)
        return _json(listed(found, request.query_params, workspace_object))

    async def make_workspace(self, request: Request) -> Response:
        """`POST /v1/organizations/workspaces`."""
        await self._admin(request)
        name = await read_body(request, _MOST_BODY_BYTES, read_workspace_name)
        return _json(workspace_object(await self._administration.make_workspace(name)))

    async def workspace(self, request: Request) -> Response:
        """`GET /v1/organizations/workspaces/{id}`."""
        await self._admin(request)
        return _json(workspace_object(await self._administration.workspace(request.path_params["id"])))

    async def rename_workspace(self, request: Request) -> Response:
        """`POST /v1/organizations/workspaces/{id}`."""
        await self._admin(request)
        name = await read_body(request, _MOST_BODY_BYTES, read_workspace_name)
        renamed = await self._administration.rename_workspace(request.path_params["id"], name)
        return _json(workspace_object(renamed))

    async def archive_workspace(self, request: Request) -> Response:
        """`POST /v1/organizations/workspaces/{id}/archive`."""
        await self._admin(request)
        archived = await self._administration.archive_workspace(request.path_params["id"])
        return _json(workspace_object(archived))

    async def keys(self, request: Request) -> Response:
        """`GET /v1/organizations/api_keys`."""
        version = (await self._admin(request)).dialect.version
        found = filtered_keys(await self._administration.keys(), request.query_params)
        return _json(listed(found, request.query_params, lambda key: key_object(key, version)))

    async def key(self, request: Request) -> Response:
        """`GET /v1/organizations/api_keys/{id}`."""
        version = (await self._admin(request)).dialect.version
        return _json(key_object(await self._administration.key(request.path_params["id"]), version))

    async def change_key(self, request: Request) -> Response:
        """`POST /v1/organizations/api_keys/{id}`."""
        version = (await self._admin(request)).dialect.version
        name, status = await read_body(request, _MOST_BODY_BYTES, read_key_change)
        changed = await self._administration.change_key(request.path_params["id"], name, status)
        return _json(key_object(changed, version))

    async def rate_limits(self, request: Request) -> Response:
        """`GET /v1/organizations/rate_limits`."""
        await self._admin(request)
        rules = await self._administration.rules()
        return _json(organization_limits(rules, request.query_params, self._model_asked_for(request)))

    async def rate_limits_of_workspace(self, request: Request) -> Response:
        """`GET /v1/organizations/workspaces/{id}/rate_limits`."""
        await self._admin(request)
        workspace = await self._administration.workspace(request.path_params["id"])
        rules = await self._administration.rules()
        model_id = self._model_asked_for(request)
        return _json(workspace_limits(rules, workspace.id, request.query_params, model_id))

    async def users(self, request: Request) -> Response:
        """`GET /v1/organizations/users`: nobody has an account here."""
        await self._admin(request)
        return _json(listed(NOBODY, request.query_params, workspace_object))

    async def invites(self, request: Request) -> Response:
        """`GET /v1/organizations/invites`: nobody is invited to one."""
        await self._admin(request)
        return _json(listed(NOBODY, request.query_params, workspace_object))

    def _model_asked_for(self, request: Request) -> str | None:
        name = request.query_params.get("model")
        return None if name is None else self._services.catalogue.manifest(name).id

    async def _admin(self, request: Request) -> Caller:
        caller = await read_headers(request.headers, self._services.keys, self._config.compatibility)
        if caller.identity.role != "admin":
            raise PermissionDenied("this key may not use the Admin API")
        return caller


def _json(value: object) -> Response:
    return Response(json.dumps(value), 200, media_type="application/json")
