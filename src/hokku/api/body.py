"""Request bodies: received under a limit, inflated under the same limit, read as one JSON object, and checked.

Whatever a client sends, memory stays within a small multiple of the limit and the answer is a named error
(wire.md sections 1.2, 1.5 and 2.1).
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request

from hokku.protocol.errors import InvalidRequest, RequestTooLarge

T = TypeVar("T")

# Parsing this much takes about a millisecond; larger bodies go to a thread.
MAX_INLINE_BYTES = 128 * 1024
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


async def read_body(request: Request, max_bytes: int, check: Callable[[dict[str, Any]], T]) -> T:
    """What `check` makes of the body, a JSON object. Raises `InvalidRequest` or `RequestTooLarge`."""
    encoding = body_encoding(request)
    return await check_body(await receive_body(request, max_bytes), encoding, max_bytes, check)


async def check_body(body: bytes, encoding: str, max_bytes: int, check: Callable[[dict[str, Any]], T]) -> T:
    """What `check` makes of a body that has come, a JSON object. Raises like `read_body`."""
    if len(body) <= MAX_INLINE_BYTES and encoding != "gzip":
        return check(parse_object(body))
    return await asyncio.to_thread(lambda: check(_inflate_and_parse(body, encoding, max_bytes)))


def body_encoding(request: Request) -> str:
    """`identity` or `gzip`, of a body that says it is JSON. Raises `InvalidRequest`."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise InvalidRequest("Input should be 'application/json'", place="content-type")
    return content_encoding(request)


def content_encoding(request: Request) -> str:
    """`identity` or `gzip`. Raises `InvalidRequest`."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise InvalidRequest(
            f"content-encoding {encoding!r} is not supported; send identity or gzip",
            error_code="request_body_encoding_unsupported",
        )
    return encoding or "identity"


async def receive_body(request: Request, max_bytes: int) -> bytes:
    """All bytes of the body. Raises `RequestTooLarge` once there are more than `max_bytes`."""
    declared = request.headers.get("content-length", "")
    is_too_large = declared.isdigit() and int(declared) > max_bytes
    chunks: list[bytes] = []
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            is_too_large = True
            chunks.clear()
        if not is_too_large:
            chunks.append(chunk)
        elif num_bytes > 2 * max_bytes:
            break
    # What is over the limit is read and thrown away, up to twice the limit: a client still busy sending would
    # see a broken connection instead of the answer.
    if is_too_large:
        raise RequestTooLarge("Request exceeds the maximum allowed number of bytes.")
    return b"".join(chunks)


def inflate(body: bytes, max_bytes: int) -> bytes:
    """A gzip body decompressed. Never makes more than `max_bytes` + 1 bytes of it."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise undecodable() from None
    if len(inflated) > max_bytes:
        raise too_large_after_decoding()
    if not inflater.eof or inflater.unused_data:
        raise undecodable()
    return inflated


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises `InvalidRequest` saying where the text goes wrong."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        readable = body[: error.start].decode("utf-8")
        _refuse("invalid UTF-8", readable, len(readable))
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        _refuse(error.msg, text, error.pos)
    except RecursionError:
        _refuse("nesting is too deep", text, 0)
    except ValueError as error:  # a whole number with more digits than Python converts
        _refuse(str(error).partition(":")[0], text, 0)
    if has_lone_surrogate(value, text):
        _refuse("no low surrogate in string", text, find_lone_surrogate(text))
    if not isinstance(value, dict):
        raise InvalidRequest("Input should be an object")
    return value


def has_lone_surrogate(value: object, text: str) -> bool:
    """Whether a string in `value` holds half a surrogate pair, which stands for no character."""
    if "\\ud" not in text and "\\uD" not in text:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def find_lone_surrogate(text: str) -> int:
    """Where in `text`, which holds one, the first escaped half of a pair stands."""
    high_at, high_ends_at = -1, -1
    for escape in ESCAPE.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        completes_pair = 0xDC00 <= code <= 0xDFFF and escape.start() == high_ends_at
        if high_at >= 0 and not completes_pair:
            break
        if 0xDC00 <= code <= 0xDFFF and not completes_pair:
            return escape.start()
        is_high = 0xD800 <= code <= 0xDBFF
        high_at, high_ends_at = (escape.start(), escape.end()) if is_high else (-1, -1)
    return high_at


def _inflate_and_parse(body: bytes, encoding: str, max_bytes: int) -> dict[str, Any]:
    return parse_object(inflate(body, max_bytes) if encoding == "gzip" else body)


def too_large_after_decoding() -> RequestTooLarge:
    """The error for a body that gzip has made small."""
    return RequestTooLarge(
        "Request exceeds the maximum allowed number of bytes after decoding.",
        error_code="request_body_too_large_after_decoding",
    )


def undecodable() -> InvalidRequest:
    """The error for a body that is not the gzip it says it is."""
    return InvalidRequest(
        "The request body could not be decoded as gzip", error_code="request_body_encoding_invalid"
    )


def refuse_constant(name: str) -> NoReturn:
    """For `json`: NaN and the infinities are no JSON."""
    raise ValueError(f"{name} is no JSON value")


def _refuse(reason: str, text: str, position: int) -> NoReturn:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    raise InvalidRequest(
        f"The request body is not valid JSON: {reason}: line {line} column {column} (char {position})"
    ) from None
