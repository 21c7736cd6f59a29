"""Requests of batches as this wire writes them, and their results (wire.md section 5)."""

from __future__ import annotations

import json
from typing import Any

from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.envelope import error_object
from hokku.api.anthropic.fields import refuse
from hokku.api.anthropic.messages_body import parse_messages_body
from hokku.api.anthropic.sse import message_object
from hokku.api.body import parse_object
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import Reply
from hokku.protocol.messages import MessagesRequest
from hokku.service.models import Catalogue


def dialect_text(dialect: Dialect) -> str:
    """What of a dialect has to be remembered with a batch."""
    return json.dumps({"version": dialect.version, "betas": sorted(dialect.betas)})


class AnthropicBatchWire:
    """Reads requests with the rules of Messages, of the moment in which they are worked off."""

    def __init__(self, catalogue: Catalogue, compatibility: Compatibility) -> None:
        self._catalogue = catalogue
        self._compatibility = compatibility

    def read(self, body: bytes, dialect: str) -> MessagesRequest:
        """A request, checked. Raises `InvalidRequest`, `NotFound`."""
        params = parse_object(body)["params"]
        _refuse_what_batches_lack(params)
        headers = json.loads(dialect)
        betas = frozenset(headers["betas"])
        checked = parse_messages_body(params, Dialect(headers["version"], betas, self._compatibility))
        checked.prompt.refuse_unserved(self._catalogue.manifest(checked.prompt.model).id)
        return checked.request

    def succeeded(self, reply: Reply, body: bytes, dialect: str) -> str:
        """The result with a message."""
        return _result("succeeded", message=message_object(reply))

    def errored(self, error: Exception, request_id: str | None, dialect: str) -> str:
        """The result with an error's whole envelope."""
        envelope = {"type": "error", "error": error_object(error), "request_id": request_id}
        return _result("errored", error=envelope)


def _refuse_what_batches_lack(params: dict[str, Any]) -> None:
    if params.get("stream") is True:
        raise InvalidRequest('"stream=True" is not supported in the Message Batches API')
    if params.get("max_tokens") == 0:
        refuse("max_tokens", "must be greater than or equal to 1")


def _result(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))
