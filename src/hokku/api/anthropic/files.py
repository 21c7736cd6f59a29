"""The Files API: uploads as they come, and lists in both generations' shapes (wire.md section 8)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.anthropic.fields import refuse
from hokku.api.anthropic.headers import Caller, read_call
from hokku.api.anthropic.models import DEFAULT_PAGE, read_limit
from hokku.api.anthropic.uploads import receive_upload
from hokku.api.config import ApiConfig, Services
from hokku.protocol.errors import InvalidRequest, NotFound
from hokku.protocol.records import UploadedFile
from hokku.service.call_limits import Calls
from hokku.service.ids import moment_of_file_id

_MOST_IDS = 100
_OLD_BETA = "files-api-2025-04-14"
_FILE, _PAGE = "file_", "page_"


def file_routes(services: Services, config: ApiConfig) -> list[Route]:
    """Every route of the Files API."""
    wire = FilesWire(services, config)
    return [
        Route("/v1/files", wire.upload, methods=["POST"]),
        Route("/v1/files", wire.files, methods=["GET"]),
        Route("/v1/files/{id}", wire.file, methods=["GET"]),
        Route("/v1/files/{id}", wire.delete, methods=["DELETE"]),
        Route("/v1/files/{id}/content", wire.content, methods=["GET"]),
    ]


class FilesWire:
    """The endpoints. Each checks headers first."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._files = services.files
        self._config = config

    async def upload(self, request: Request) -> Response:
        """`POST /v1/files`."""
        caller = await self._caller(request)
        file = await receive_upload(request, self._files, caller.identity)
        return _json(_shown(file, caller), caller)

    async def files(self, request: Request) -> Response:
        """`GET /v1/files`."""
        caller = await self._caller(request)
        query = request.query_params
        if "ids[]" in query:
            page = await self._some(query, caller)
        elif _is_old(caller):
            page = await self._old_page(query, caller)
        else:
            page = await self._page(query, caller)
        return _json(page, caller)

    async def file(self, request: Request) -> Response:
        """`GET /v1/files/{id}`."""
        caller = await self._caller(request)
        return _json(_shown(await self._found(request, caller), caller), caller)

    async def content(self, request: Request) -> Response:
        """`GET /v1/files/{id}/content`: only what a tool of the server's has made could be had, and there is none."""
        caller = await self._caller(request)
        file = await self._found(request, caller)
        if file.is_expired(datetime.now(UTC)):
            raise NotFound(f"File `{file.id}` has expired.", error_code="file_expired")
        raise InvalidRequest(f"File `{file.id}` is not downloadable.", error_code="file_not_downloadable")

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/files/{id}`."""
        caller = await self._caller(request)
        file_id = request.path_params["id"]
        await self._files.delete(file_id, caller.identity)
        return _json({"id": file_id, "type": "file_deleted"}, caller)

    async def _found(self, request: Request, caller: Caller) -> UploadedFile:
        return await self._files.file(request.path_params["id"], caller.identity)

    async def _some(self, query: QueryParams, caller: Caller) -> dict[str, Any]:
        for name in ("page", "limit"):
            if name in query:
                refuse("ids", f"cannot be combined with {name}")
        ids = dict.fromkeys(query.getlist("ids[]"))
        if len(ids) > _MOST_IDS:
            refuse("ids", f"List should have at most {_MOST_IDS} items after validation, not {len(ids)}")
        found = await self._files.some(ids, caller.identity)
        return _listed(found, caller, has_more=False)

    async def _page(self, query: QueryParams, caller: Caller) -> dict[str, Any]:
        limit = read_limit(query.get("limit", str(DEFAULT_PAGE)))
        after_id = _id_of_page(query["page"]) if query.get("page") else None
        if "scope_id" in query:  # the hosted service's sessions have files; none is made here
            return _listed([], caller, has_more=False)
        found, has_more = await self._files.page(caller.identity, limit, after_id=after_id)
        return _listed(found, caller, has_more)

    async def _old_page(self, query: QueryParams, caller: Caller) -> dict[str, Any]:
        if "before_id" in query and "after_id" in query:
            refuse("before_id", "cannot be combined with after_id")
        limit = read_limit(query.get("limit", str(DEFAULT_PAGE)))
        if "scope_id" in query:
            return _listed([], caller, has_more=False)
        found, has_more = await self._files.page(
            caller.identity, limit, after_id=query.get("after_id"), before_id=query.get("before_id")
        )
        return _listed(found, caller, has_more)

    async def _caller(self, request: Request) -> Caller:
        return await read_call(request.headers, self._services, self._config, Calls.FILES)


def _id_of_page(token: str) -> str:
    file_id = _FILE + token.removeprefix(_PAGE)
    if not token.startswith(_PAGE) or moment_of_file_id(file_id) is None:
        refuse("page", "is not a page that a list has named")
    return file_id


def _listed(found: Sequence[UploadedFile], caller: Caller, has_more: bool) -> dict[str, Any]:
    data = [_shown(file, caller) for file in found]
    if _is_old(caller):
        first, last = (found[0].id, found[-1].id) if found else (None, None)
        return {"data": data, "has_more": has_more, "first_id": first, "last_id": last}
    return {"data": data, "next_page": _PAGE + found[-1].id.removeprefix(_FILE) if has_more else None}


def _shown(file: UploadedFile, caller: Caller) -> dict[str, Any]:
    """What a client may know about a file."""
    metadata = {
        "type": "file",
        "id": file.id,
        "filename": file.filename,
        "mime_type": file.media_type,
        "size_bytes": file.num_bytes,
        "created_at": _timestamp(file.created_at),
        "downloadable": False,
    }
    if _is_old(caller):
        return metadata
    expires_at = None if file.expires_at is None else _timestamp(file.expires_at)
    return {**metadata, "expires_at": expires_at}


def _is_old(caller: Caller) -> bool:
    return _OLD_BETA in caller.dialect.betas


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _json(value: object, caller: Caller) -> Response:
    return Response(json.dumps(value), 200, caller.answer_headers, "application/json")
