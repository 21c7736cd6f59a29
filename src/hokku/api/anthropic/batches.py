"""Message Batches: the routes, and batches as clients see them (wire.md section 5)."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hokku.api.anthropic.batch_body import read_batch
from hokku.api.anthropic.batch_wire import dialect_text
from hokku.api.anthropic.headers import Caller, read_call
from hokku.api.anthropic.models import read_page_query
from hokku.api.config import ApiConfig, Services
from hokku.protocol.batches import OUTCOMES, Batch
from hokku.service.call_limits import Calls

_RETRY_AFTER_SECS = 10
_HOST = re.compile(r"[A-Za-z0-9._~-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


def batch_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Every route of Message Batches."""
    wire = BatchesEndpoints(services, config)
    one = "/v1/messages/batches/{id}"
    return [
        Route("/v1/messages/batches", wire.create, methods=["POST"]),
        Route("/v1/messages/batches", wire.list, methods=["GET"]),
        Route(one, wire.retrieve, methods=["GET"]),
        Route(one, wire.delete, methods=["DELETE"]),
        Route(f"{one}/cancel", wire.cancel, methods=["POST"]),
        Route(f"{one}/results", wire.results, methods=["GET"]),
    ]


class BatchesEndpoints:
    """The endpoints. Each checks headers first."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._batches = services.batches
        self._config = config

    async def create(self, request: Request) -> Response:
        """`POST /v1/messages/batches`."""
        caller = await self._caller(request)
        if self._services.call_limits is not None:
            await self._services.call_limits.refuse_spent(caller.identity)
        draft = await asyncio.to_thread(self._batches.draft, caller.identity, dialect_text(caller.dialect))
        try:
            await read_batch(request, draft, self._config.max_batch_bytes, self._config.max_body_bytes)
            batch = await asyncio.to_thread(draft.keep)
        finally:
            await asyncio.to_thread(draft.discard)
        return _batch_response(batch, request, caller)

    async def list(self, request: Request) -> Response:
        """`GET /v1/messages/batches`."""
        caller = await self._caller(request)
        query = read_page_query(request.query_params)
        found, has_more = await self._batches.page(
            caller.identity, query.limit, query.after_id, query.before_id
        )
        base = public_base(request)
        page = {
            "data": [batch_object(batch, base) for batch in found],
            "has_more": has_more,
            "first_id": found[0].id if found else None,
            "last_id": found[-1].id if found else None,
        }
        return _json(page, caller)

    async def retrieve(self, request: Request) -> Response:
        """`GET /v1/messages/batches/{id}`."""
        caller = await self._caller(request)
        batch = await self._batches.batch(request.path_params["id"], caller.identity)
        return _batch_response(batch, request, caller)

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/messages/batches/{id}/cancel`."""
        caller = await self._caller(request)
        batch = await self._batches.cancel(request.path_params["id"], caller.identity)
        return _batch_response(batch, request, caller)

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/messages/batches/{id}`."""
        caller = await self._caller(request)
        batch_id = request.path_params["id"]
        await self._batches.delete(batch_id, caller.identity)
        return _json({"id": batch_id, "type": "message_batch_deleted"}, caller)

    async def results(self, request: Request) -> Response:
        """`GET /v1/messages/batches/{id}/results`, whatever the client says it accepts."""
        caller = await self._caller(request)
        pieces = await self._batches.results(request.path_params["id"], caller.identity)
        return StreamingResponse(pieces, 200, caller.answer_headers, "application/x-jsonl")

    async def _caller(self, request: Request) -> Caller:
        return await read_call(request.headers, self._services, self._config, Calls.BATCHES)


def batch_object(batch: Batch, base: str) -> dict[str, Any]:
    """A batch. `base` is this server's address, as its clients know it."""
    has_results = batch.results_blob is not None
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": batch.status,
        "request_counts": {name: getattr(batch.counts, name) for name in ("processing", *OUTCOMES)},
        "ended_at": _timestamp(batch.ended_at),
        "created_at": _timestamp(batch.created_at),
        "expires_at": _timestamp(batch.expires_at),
        "archived_at": _timestamp(batch.archived_at),
        "cancel_initiated_at": _timestamp(batch.cancel_initiated_at),
        "results_url": f"{base}/v1/messages/batches/{batch.id}/results" if has_results else None,
    }


def public_base(request: Request) -> str:
    """Where the client has reached this server, a proxy in front of it included. The client alone could lie about it,
    and would be the only one to be told so."""
    scheme = _first(request, "x-forwarded-proto") or request.url.scheme
    host = _first(request, "x-forwarded-host") or request.headers.get("host", "")
    if scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return ""  # relative to the server's root, which SDKs understand too
    return f"{scheme}://{host}"


def _first(request: Request, name: str) -> str:
    return request.headers.get(name, "").partition(",")[0].strip()


def _batch_response(batch: Batch, request: Request, caller: Caller) -> Response:
    response = _json(batch_object(batch, public_base(request)), caller)
    if batch.status != "ended":
        response.headers["retry-after"] = str(_RETRY_AFTER_SECS)
    return response


def _timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds and a Z."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _json(value: object, caller: Caller) -> Response:
    return Response(json.dumps(value), 200, caller.answer_headers, "application/json")
