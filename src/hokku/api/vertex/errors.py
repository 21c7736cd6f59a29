"""Errors of this wire: Google's for what stands before the model, the vendor's envelope for the rest."""

from __future__ import annotations

import json

from starlette.responses import Response

from hokku.api.wire import public_message
from hokku.protocol.errors import AuthenticationFailed, NotFound, PermissionDenied, RateLimited

GOOGLE_STATUS: dict[type, tuple[int, str]] = {
    AuthenticationFailed: (401, "UNAUTHENTICATED"),
    PermissionDenied: (403, "PERMISSION_DENIED"),
    NotFound: (404, "NOT_FOUND"),
    RateLimited: (429, "RESOURCE_EXHAUSTED"),
}


def google_status(error: Exception) -> tuple[int, str] | None:
    """HTTP status and Google's word; None for what the model's own envelope reports."""
    kinds = (kind for kind in type(error).__mro__ if kind in GOOGLE_STATUS)
    return next((GOOGLE_STATUS[kind] for kind in kinds), None)


def google_response(error: Exception, status: int, word: str) -> Response:
    """A whole error reply in Google's form."""
    body = {"error": {"code": status, "message": public_message(error), "status": word}}
    headers = {}
    if isinstance(error, AuthenticationFailed):
        headers["www-authenticate"] = "Bearer"
    elif isinstance(error, RateLimited):
        headers["retry-after"] = str(error.retry_after_secs)
    return Response(json.dumps(body), status, headers, "application/json")
