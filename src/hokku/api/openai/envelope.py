"""Errors on this wire: `{"error": {message, type, param, code}}` (wire.md section 15).

Statuses and types are those of Messages, as the vendor's layer has them; the codes are the ones that clients of this
form look for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import Response

from hokku.api.anthropic.envelope import OVERLOAD_RETRY_AFTER_SECS, status_and_type
from hokku.api.openai.rate_headers import rate_headers
from hokku.api.openai.tools import SCHEMA_PLACE
from hokku.api.wire import public_message
from hokku.protocol.errors import (
    AuthenticationFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    PromptTooLong,
    RateLimited,
    RequestError,
)

_RETRYABLE = ("rate_limit_error", "overloaded_error", "api_error")
_OUTPUT_PLACE = re.compile(r"^output_config\.format\.schema")
_TOOL_PLACE = re.compile(r"^tools\.(\d+)\.custom\.input_schema")


def error_object(error: Exception) -> dict[str, Any]:
    """The inner `error` object."""
    place = error.place if isinstance(error, RequestError) else None
    return {
        "message": public_message(error),
        "type": status_and_type(error)[1],
        "param": place,
        "code": _code(error),
    }


def error_response(error: Exception, request_id: str, status: int | None = None) -> Response:
    """A whole error reply. `status` overrides the usual one, for 405."""
    usual_status, error_type = status_and_type(error)
    headers = {"x-should-retry": "true" if error_type in _RETRYABLE else "false"}
    if isinstance(error, RateLimited):
        headers |= {"retry-after": str(error.retry_after_secs), **rate_headers(error.levels)}
    elif isinstance(error, Overloaded):
        headers["retry-after"] = str(OVERLOAD_RETRY_AFTER_SECS)
    body = {"error": error_object(error), "request_id": request_id}
    return Response(json.dumps(body), status or usual_status, headers, "application/json")


@contextmanager
def in_this_form(limit_field: str, *, has_functions: bool = False) -> Iterator[None]:
    """Inside, a service refuses; what it names in the words of Messages is named in this wire's."""
    try:
        yield
    except InvalidRequest as refusal:
        refusal.place = _own_place(refusal.place, limit_field, has_functions)
        raise


def _own_place(place: str | None, limit_field: str, has_functions: bool) -> str | None:
    if place is None:
        return None
    if place == "max_tokens":
        return limit_field
    place = _OUTPUT_PLACE.sub(SCHEMA_PLACE, place)
    tool = r"functions[\1].parameters" if has_functions else r"tools[\1].function.parameters"
    return _TOOL_PLACE.sub(tool, place)


def _code(error: Exception) -> str | None:
    match error:
        case RequestError(error_code=str(code)):
            return code
        case PromptTooLong():
            return "context_length_exceeded"
        case AuthenticationFailed():
            return "invalid_api_key"
        case NotFound(place="model"):
            return "model_not_found"
        case RateLimited():
            return "rate_limit_exceeded"
    return None
