"""The runtime's CountTokens, of a body of either kind of operation (wire.md section 16.6)."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hokku.api.bedrock.callers import read_call
from hokku.api.bedrock.converse import counted_request
from hokku.api.bedrock.converse_fields import a_structure, a_text, a_union, needed
from hokku.api.bedrock.invoke import MAX_BODY_BYTES
from hokku.api.bedrock.invoke_body import malformed, parse_invoke_body
from hokku.api.bedrock.names import manifest_of
from hokku.api.body import check_body, content_encoding, parse_object
from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.protocol.messages import MessagesRequest
from hokku.registry.manifest import Manifest
from hokku.service.call_limits import Calls


def counting_routes(services: Services, config: ApiConfig) -> list[Route]:
    """CountTokens."""
    endpoint = CountingEndpoint(services, config)
    return [Route("/model/{model:path}/count-tokens", endpoint.count_tokens, methods=["POST"])]


class CountingEndpoint:
    """The endpoint. It finds out who calls, then reads the path's model and the body."""

    def __init__(self, services: Services, config: ApiConfig) -> None:
        self._services = services
        self._config = config
        self._max_bytes = min(config.max_body_bytes, MAX_BODY_BYTES)

    async def count_tokens(self, request: Request) -> Response:
        """`POST /model/{id}/count-tokens`."""
        call = await read_call(request, self._services.keys, self._max_bytes)
        if self._services.call_limits is not None:
            await self._services.call_limits.admit(call.identity, Calls.COUNTING)
        model, compatibility = request.path_params["model"], self._config.compatibility
        manifest = manifest_of(self._services.catalogue, model, compatibility)

        def check(body: dict[str, Any]) -> MessagesRequest:
            return _counted(body, manifest, compatibility)

        asked = await check_body(call.body, content_encoding(request), self._max_bytes, check)
        num_tokens = await self._services.messages.count(manifest.id, asked.conversation, call.identity)
        return Response(json.dumps({"inputTokens": num_tokens}), media_type="application/json")


def _counted(body: dict[str, Any], manifest: Manifest, compatibility: Compatibility) -> MessagesRequest:
    """The request that is only to be counted."""
    kind, asked = a_union(needed(a_structure(body, "", ("input",)), "input", ""), "input", _KINDS)
    return _KINDS[kind](asked, manifest, compatibility)


def _of_converse(value: object, manifest: Manifest, compatibility: Compatibility) -> MessagesRequest:
    return counted_request(value, "input.converse", manifest, compatibility)


def _of_invoke_model(value: object, manifest: Manifest, compatibility: Compatibility) -> MessagesRequest:
    path = "input.invokeModel"
    encoded = a_text(needed(a_structure(value, path, ("body",)), "body", path), f"{path}.body")
    try:
        inner = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise malformed("#/input/invokeModel/body is not base64") from None
    return parse_invoke_body({"max_tokens": 1, **parse_object(inner)}, manifest, compatibility)


_KINDS = {"invokeModel": _of_invoke_model, "converse": _of_converse}
