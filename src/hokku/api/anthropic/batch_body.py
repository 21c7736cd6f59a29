"""The body of a new batch, read as it comes: 256 MB of requests, of which never more than one is in memory.

The array is taken apart with the standard library's JSON scanner: as much text as has come is tried from the beginning
of the next request on, and where that is not all of it, tried again once there is twice as much. So a request is looked
at about twice, in C, and kept byte by byte as the client has written it.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import zlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NoReturn, Protocol

from starlette.requests import Request

from hokku.api.anthropic.fields import a_string, an_object, refuse, refuse_extras, required
from hokku.api.body import (
    body_encoding,
    find_lone_surrogate,
    has_lone_surrogate,
    refuse_constant,
    too_large_after_decoding,
    undecodable,
)
from hokku.protocol.errors import InvalidRequest, RequestError, RequestTooLarge

MAX_REQUESTS = 100_000
_PIECE_BYTES = 1 << 20  # handed to a thread at once
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_CUSTOM_ID = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_FIRST_TRY_CHARS = 4096
# Prompts are alike as far as one of these numbers of characters, or they are not. Growing, so that those with a longer
# beginning in common stand together among those with a shorter one.
_BORDERS = (128, 512, 2048, 8192, 32768)
_PROMPT = ("model", "tool_choice", "tools", "system", "messages")  # in the order in which a model reads it


class TakesRequests(Protocol):
    """A batch that is being taken in."""

    def take(self, custom_id: str, body: bytes, kinship: bytes) -> None:
        """One more request, as JSON."""


async def read_batch(request: Request, draft: TakesRequests, max_bytes: int, max_request_bytes: int) -> None:
    """Give the draft every request of the body. Raises `InvalidRequest`, `RequestTooLarge`, and what the draft does."""
    pieces = _Pieces(body_encoding(request), max_bytes)
    reader = BatchReader(draft.take, max_request_bytes)
    declared = request.headers.get("content-length", "")
    failure: Exception | None = None
    if declared.isdigit() and int(declared) > max_bytes:
        failure = RequestTooLarge("Request exceeds the maximum allowed number of bytes.")
    waiting = bytearray()
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        # What is left after a failure is read and thrown away, up to a limit: a client still busy sending would see a
        # broken connection instead of the answer.
        if failure is not None:
            if num_bytes > 2 * max_bytes:
                break
            continue
        waiting += chunk
        if len(waiting) < _PIECE_BYTES:
            continue
        try:
            await asyncio.to_thread(_feed, reader, pieces, bytes(waiting))
        except RequestError as error:
            failure = error
        waiting.clear()
    if failure is not None:
        raise failure
    await asyncio.to_thread(_finish, reader, pieces, bytes(waiting))


def kinship_of(params: dict[str, Any]) -> bytes:
    """A word that sorts requests by what their prompts have in common at the beginning."""
    text = json.dumps([params.get(name) for name in _PROMPT])
    return b"".join(blake2b(text[:border].encode(), digest_size=8).digest() for border in _BORDERS)


class BatchReader:
    """Reads `{"requests": [{"custom_id": …, "params": …}, …]}` a piece at a time.

    Args:
        take: is given each request's `custom_id`, its JSON, and its `kinship_of`.
        max_request_bytes: of one request.
        max_requests: of the batch.
    """

    def __init__(
        self,
        take: Callable[[str, bytes, bytes], None],
        max_request_bytes: int,
        max_requests: int = MAX_REQUESTS,
    ) -> None:
        self._take = take
        self._max_request_bytes = max_request_bytes
        self._max_requests = max_requests
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(parse_constant=refuse_constant)
        self._text = ""
        self._at = 0
        self._chars_before = 0  # of text that is gone
        self._lines_before = 0
        self._column_before = 0
        self._is_whole = False  # nothing comes after `_text`
        self._wanted = 0  # characters, before the next value is tried again
        self._next: Callable[[], bool] = self._open_object
        self._seen: set[str] = set()
        self._has_requests = False

    def feed(self, piece: bytes) -> None:
        """Take in more of the body. Raises `InvalidRequest`, `RequestTooLarge`."""
        self._read_on(piece)

    def finish(self) -> None:
        """That was all of it. Raises `InvalidRequest`."""
        self._is_whole = True
        self._read_on(b"")
        if self._next != self._nothing_more:
            self._refuse("it ends too early", self._at)
        if not self._has_requests:
            refuse("requests", "Field required")

    def _read_on(self, piece: bytes) -> None:
        try:
            new = self._decoder.decode(piece, self._is_whole)
        except UnicodeDecodeError:
            self._refuse("invalid UTF-8", len(self._text))
        self._forget()
        self._text += new
        if self._is_whole or len(self._text) >= self._wanted:
            while self._next():
                pass

    def _forget(self) -> None:
        """Let go of the text that is done with, but for where it ended."""
        done = self._text[: self._at]
        num_lines = done.count("\n")
        self._lines_before += num_lines
        last_line = len(done) - (done.rfind("\n") + 1)
        self._column_before = last_line if num_lines else self._column_before + last_line
        self._chars_before += self._at
        self._text = self._text[self._at :]
        self._wanted -= self._at if self._wanted else 0
        self._at = 0

    # The steps. Each says whether the next one can be tried: it cannot where the text has come to its end.

    def _open_object(self) -> bool:
        mark = self._mark()
        if mark == "":
            return self._wait()
        if mark != "{":
            self._value()
            refuse("", "Input should be an object")
        return self._go_on(self._key_or_end)

    def _key_or_end(self) -> bool:
        if self._mark() == "}":
            return self._go_on(self._nothing_more)
        return self._key()

    def _key(self) -> bool:
        mark = self._mark()
        if mark == "":
            return self._wait()
        if mark != '"':
            self._refuse("Expecting property name enclosed in double quotes", self._at)
        found = self._value()
        if found is None:
            return self._wait()
        if found[0] != "requests":
            refuse(found[0], "Extra inputs are not permitted")
        return self._go_on(self._colon, found[1])

    def _colon(self) -> bool:
        mark = self._mark()
        if mark == "":
            return self._wait()
        if mark != ":":
            self._refuse("Expecting ':' delimiter", self._at)
        return self._go_on(self._open_array)

    def _open_array(self) -> bool:
        mark = self._mark()
        if mark == "":
            return self._wait()
        if mark != "[":
            refuse("requests", "Input should be a valid list")
        self._has_requests = True
        return self._go_on(self._request_or_end)

    def _request_or_end(self) -> bool:
        if self._mark() == "]":
            refuse("requests", "List should have at least 1 item after validation, not 0")
        return self._request()

    def _request(self) -> bool:
        if self._mark() == "":
            return self._wait()
        start = self._at
        found = self._value()
        if found is None:
            return self._wait()
        value, end = found
        text = self._text[start:end]
        if has_lone_surrogate(value, text):
            self._refuse("no low surrogate in string", start + find_lone_surrogate(text))
        self._check(value, text)
        return self._go_on(self._comma_or_end, end)

    def _comma_or_end(self) -> bool:
        mark = self._mark()
        if mark == "":
            return self._wait()
        if mark == "]":
            return self._go_on(self._comma_or_end_of_object)
        if mark != ",":
            self._refuse("Expecting ',' delimiter", self._at)
        return self._go_on(self._request)

    def _comma_or_end_of_object(self) -> bool:
        mark = self._mark()
        if mark == "":
            return self._wait()
        if mark == "}":
            return self._go_on(self._nothing_more)
        if mark != ",":
            self._refuse("Expecting ',' delimiter", self._at)
        return self._go_on(self._key)

    def _nothing_more(self) -> bool:
        if self._mark() != "":
            self._refuse("Extra data", self._at)
        return self._wait()

    # What the steps are made of.

    def _mark(self) -> str:
        """The next character that is not white space; "" at the end of the text."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def _go_on(self, step: Callable[[], bool], at: int | None = None) -> bool:
        self._at = self._at + 1 if at is None else at
        self._next = step
        self._wanted = 0
        return True

    def _wait(self) -> bool:
        return False

    def _value(self) -> tuple[Any, int] | None:
        """The value that begins here, and its end; None where the text ends before it."""
        try:
            return self._json.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            num_chars = len(self._text) - self._at
            if num_chars > self._max_request_bytes:
                raise RequestTooLarge("Request exceeds the maximum allowed number of bytes.") from None
            if self._is_whole:
                self._refuse(error.msg, error.pos)
            self._wanted = self._at + max(2 * num_chars, _FIRST_TRY_CHARS)
            return None
        except RecursionError:
            self._refuse("nesting is too deep", self._at)
        except ValueError as error:  # a constant that is none, or a number with too many digits
            self._refuse(str(error).partition(":")[0], self._at)

    def _check(self, value: object, text: str) -> None:
        path = f"requests.{len(self._seen)}"
        fields = an_object(value, path)
        custom_id = a_string(required(fields, "custom_id", path), f"{path}.custom_id")
        if len(custom_id) > _MAX_CUSTOM_ID:
            refuse(f"{path}.custom_id", f"String should have at most {_MAX_CUSTOM_ID} characters")
        if not _CUSTOM_ID.fullmatch(custom_id):
            refuse(f"{path}.custom_id", f"String should match pattern '^{_CUSTOM_ID.pattern}$'")
        params = an_object(required(fields, "params", path), f"{path}.params")
        refuse_extras(fields, ("custom_id", "params"), path)
        if custom_id in self._seen:
            sentence = f"custom_id's must be unique within a batch. Duplicate custom_id found: {custom_id}"
            refuse("requests", sentence)
        if len(self._seen) == self._max_requests:
            most = self._max_requests
            refuse("requests", f"List should have at most {most} items after validation, not {most + 1}")
        body = text.encode()
        if len(body) > self._max_request_bytes:
            raise RequestTooLarge("Request exceeds the maximum allowed number of bytes.")
        self._seen.add(custom_id)
        self._take(custom_id, body, kinship_of(params))

    def _refuse(self, reason: str, at: int) -> NoReturn:
        done = self._text[:at]
        num_lines = done.count("\n")
        column = at - (done.rfind("\n") + 1) + 1 + (0 if num_lines else self._column_before)
        raise InvalidRequest(
            f"The request body is not valid JSON: {reason}: line {self._lines_before + num_lines + 1} "
            f"column {column} (char {self._chars_before + at})"
        ) from None


class _Pieces:
    """The body's pieces, inflated where they are gzip, under a limit."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if encoding == "gzip" else None
        self._left = max_bytes

    def of(self, piece: bytes) -> Iterator[bytes]:
        """What a piece stands for, in pieces of bounded size."""
        if self._inflater is None:
            self._left -= len(piece)
            if self._left < 0:
                raise RequestTooLarge("Request exceeds the maximum allowed number of bytes.")
            yield piece
            return
        while piece and not self._inflater.eof:
            try:
                inflated = self._inflater.decompress(piece, _PIECE_BYTES)
            except zlib.error:
                raise undecodable() from None
            piece = self._inflater.unconsumed_tail
            self._left -= len(inflated)
            if self._left < 0:
                raise too_large_after_decoding()
            yield inflated
        if piece or self._inflater.unused_data:
            raise undecodable()

    def finish(self) -> None:
        """Refuse gzip that is cut off."""
        if self._inflater is not None and not self._inflater.eof:
            raise undecodable()


def _feed(reader: BatchReader, pieces: _Pieces, piece: bytes) -> None:
    for inflated in pieces.of(piece):
        reader.feed(inflated)


def _finish(reader: BatchReader, pieces: _Pieces, piece: bytes) -> None:
    _feed(reader, pieces, piece)
    pieces.finish()
    reader.finish()
