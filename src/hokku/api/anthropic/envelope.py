"""Errors on this wire: the one place that knows the status and type of each (wire.md section 1.4)."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from hokku.api.anthropic.rate_headers import rate_headers
from hokku.api.wire import public_message
from hokku.protocol.errors import (
    AuthenticationFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestError,
    RequestTooLarge,
    StorageUnavailable,
)

STATUS_AND_TYPE: dict[type, tuple[int, str]] = {
    InvalidRequest: (400, "invalid_request_error"),
    AuthenticationFailed: (401, "authentication_error"),
    PermissionDenied: (403, "permission_error"),
    NotFound: (404, "not_found_error"),
    RequestTooLarge: (413, "request_too_large"),
    RateLimited: (429, "rate_limit_error"),
    StorageUnavailable: (503, "api_error"),
    Overloaded: (529, "overloaded_error"),
}
INTERNAL = (500, "api_error")
OVERLOAD_RETRY_AFTER_SECS = 1


def status_and_type(error: Exception) -> tuple[int, str]:
    """HTTP status and `error.type`. What is not the caller's to mend is a 500."""
    kinds = (kind for kind in type(error).__mro__ if kind in STATUS_AND_TYPE)
    return next((STATUS_AND_TYPE[kind] for kind in kinds), INTERNAL)


def error_object(error: Exception) -> dict[str, Any]:
    """The inner `error` object."""
    error_code = error.error_code if isinstance(error, RequestError) else None
    details = {"details": {"error_code": error_code}} if error_code else {}
    return {"type": status_and_type(error)[1], "message": public_message(error), **details}


def error_response(error: Exception, request_id: str, status: int | None = None) -> Response:
    """A whole error reply. `status` overrides the usual one, for 405."""
    usual_status, error_type = status_and_type(error)
    body = {"type": "error", "error": error_object(error), "request_id": request_id}
    retryable = error_type in ("rate_limit_error", "overloaded_error", "api_error")
    headers = {"x-should-retry": "true" if retryable else "false"}
    if isinstance(error, RateLimited):
        headers |= {"retry-after": str(error.retry_after_secs), **rate_headers(error.levels)}
    elif isinstance(error, Overloaded):
        headers["retry-after"] = str(OVERLOAD_RETRY_AFTER_SECS)
    return Response(json.dumps(body), status or usual_status, headers, "application/json")
