"""What another service's refusals mean here: which are the caller's to mend, which pass, and which are the operator's.

Its words go to the caller only where they are about the request; a key that they repeat is taken out.
"""

from __future__ import annotations

import json
from typing import Any

from hokku.protocol.errors import (
    HokkuError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    UpstreamFailed,
)

MAX_REFUSAL_BYTES = 64 << 10
_MAX_WORDS_CHARS = 1_000
_MOST_RETRY_SECS = 3_600
_ABOUT_THE_REQUEST = (400, 422)
_PASSING = (502, 503, 504, 529)  # what it answers while it is overloaded, or restarted
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
}


def refusal(status: int, body: bytes, retry_after: str, key: str | None) -> HokkuError:
    """The error for an answer that is no reply.

    Args:
        status: of HTTP.
        body: as far as it was read.
        retry_after: the header of that name, or "".
        key: what must not be repeated.
    """
    return _error(status, without_key(_words(body), key), retry_after)


def refusal_in_stream(error: object, key: str | None) -> HokkuError:
    """The error for an `error` object in the midst of a stream."""
    found = error if isinstance(error, dict) else {}
    status = next(
        (_STATUS_OF_TYPE[word] for word in _words_for_programs(found) if word in _STATUS_OF_TYPE), 500
    )
    code = found.get("code")
    if status == 500 and isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
        status = code  # vLLM says it in numbers
    return _error(status, without_key(_sentence(found), key), "")


def without_key(words: str, key: str | None) -> str:
    """`words`, with the key taken out should they hold it."""
    return words.replace(key, "…") if key else words


def _error(status: int, words: str, retry_after: str) -> HokkuError:
    said = f": {words}" if words else ""
    if status in _ABOUT_THE_REQUEST:
        return InvalidRequest(words or "the service that answers in the model's place refused the request")
    if status == 413:
        return RequestTooLarge(
            words or "the request is too large for the service that answers in the model's place"
        )
    if status == 429:
        return RateLimited(f"the service is at its limit{said}", retry_after_secs=_secs(retry_after))
    if status in _PASSING:
        return Overloaded(f"the service is overloaded ({status}){said}")
    if status in (401, 403):
        return UpstreamFailed(f"the service refused this server's key ({status}){said}")
    return UpstreamFailed(f"the service answered {status}{said}")


def _words(body: bytes) -> str:
    """The sentence in an error body, in any of the forms that services have for it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return _sentence(value.get("error", value)) if isinstance(value, dict) else ""


def _sentence(error: Any) -> str:
    if isinstance(error, dict):
        error = next((error[name] for name in ("message", "detail") if isinstance(error.get(name), str)), "")
    words = error if isinstance(error, str) else ""
    # It may go into a log and into an envelope: one line, of characters that can be written.
    words = " ".join(words.encode(errors="replace").decode().split())
    return words if len(words) <= _MAX_WORDS_CHARS else f"{words[:_MAX_WORDS_CHARS]}…"


def _words_for_programs(error: dict[str, Any]) -> list[str]:
    return [error[name] for name in ("type", "code") if isinstance(error.get(name), str)]


def _secs(retry_after: str) -> int:
    is_number = retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9
    return min(int(retry_after), _MOST_RETRY_SECS) if is_number else 1
