"""Errors of this wire: the one place that knows the status and name of each (wire.md section 16.5)."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from hokku.api.bedrock.event_stream import exception_frame
from hokku.api.wire import public_message
from hokku.protocol.errors import (
    AuthenticationFailed,
    EngineFailed,
    InvalidRequest,
    ModelLoading,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestError,
    RequestTooLarge,
    StorageUnavailable,
    UpstreamFailed,
)

STATUS_AND_NAME: dict[type, tuple[int, str]] = {
    InvalidRequest: (400, "ValidationException"),
    AuthenticationFailed: (403, "AccessDeniedException"),
    PermissionDenied: (403, "AccessDeniedException"),
    NotFound: (404, "ResourceNotFoundException"),
    RequestTooLarge: (413, "RequestEntityTooLargeException"),
    RateLimited: (429, "ThrottlingException"),
    ModelLoading: (429, "ModelNotReadyException"),
    StorageUnavailable: (503, "ServiceUnavailableException"),
    Overloaded: (503, "ServiceUnavailableException"),
}
INTERNAL = (500, "InternalServerException")
# The union of what may end a stream has few members; whatever is none of them is the server's.
STREAMED = frozenset({"ValidationException", "ThrottlingException", "ServiceUnavailableException"})
NAMESPACE = "http://internal.amazon.com/coral/com.amazon.bedrock/"  # clients cut the name off before it
OVERLOAD_RETRY_AFTER_SECS = 1


def status_and_name(error: Exception) -> tuple[int, str]:
    """HTTP status and the exception's name. What is not the caller's to mend is a 500."""
    kinds = (kind for kind in type(error).__mro__ if kind in STATUS_AND_NAME)
    status, name = next((STATUS_AND_NAME[kind] for kind in kinds), INTERNAL)
    # What is wrong with a signature has more names than there are classes here.
    if isinstance(error, AuthenticationFailed) and error.error_code:
        name = error.error_code
    return status, name


def error_object(error: Exception) -> dict[str, Any]:
    """The body of an error."""
    sentence = public_message(error)
    if isinstance(error, RateLimited):
        sentence = f"Too many requests, please wait before trying again. {sentence}"
    return {"message": sentence}


def error_response(error: Exception, status: int | None = None) -> Response:
    """A whole error reply. `status` overrides the usual one, for 405."""
    usual_status, name = status_and_name(error)
    headers = {"x-amzn-errortype": f"{name}:{NAMESPACE}"}
    if isinstance(error, RateLimited):
        headers["retry-after"] = str(error.retry_after_secs)
    elif isinstance(error, Overloaded):
        headers["retry-after"] = str(OVERLOAD_RETRY_AFTER_SECS)
    return Response(json.dumps(error_object(error)), status or usual_status, headers, "application/json")


def error_frame(error: Exception) -> bytes:
    """The last frame of a stream that cannot go on."""
    body = error_object(error)
    if isinstance(error, EngineFailed | UpstreamFailed):
        name = "ModelStreamErrorException"
        body |= {"originalStatusCode": INTERNAL[0], "originalMessage": body["message"]}
    else:
        name = status_and_name(error)[1]
        name = name if name in STREAMED and isinstance(error, RequestError) else INTERNAL[1]
    return exception_frame(name[0].lower() + name[1:], json.dumps(body).encode())
