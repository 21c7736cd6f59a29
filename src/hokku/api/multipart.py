"""Reads a form with files in it, `multipart/form-data` (RFC 7578), as its bytes come.

The parsing is python-multipart's; here are the limits on what is not a file's content, and the names of what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from hokku.protocol.errors import InvalidRequest

_MOST_PARTS = 16
_MOST_BOUNDARY_CHARS = 70  # RFC 2046 section 5.1.1

# What a client sends wrong is answered; a log line of each would be a way to fill a disk.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins; its content follows in pieces."""

    name: str
    filename: str | None
    media_type: str  # "" where the client names none


@dataclass(frozen=True, slots=True)
class PartEnd:
    """Its content is complete."""


FormEvent = PartStart | bytes | PartEnd


class FormReader:
    """The events of a form, out of its bytes however they are cut. Needs no more memory than it is given at once.

    Args:
        content_type: the request's header. Raises `InvalidRequest` unless it names a form and its boundary.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data":
            raise InvalidRequest("Input should be 'multipart/form-data'", place="content-type")
        if not 0 < len(boundary) <= _MOST_BOUNDARY_CHARS:
            raise InvalidRequest("a boundary of 1 to 70 characters is missing", place="content-type")
        self._events: list[FormEvent] = []
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = bytearray(), bytearray()
        self._num_parts = 0
        self._is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._start_content,
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append(PartEnd()),
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> Iterator[FormEvent]:
        """What has become certain. Raises `InvalidRequest`."""
        try:
            self._parser.write(data)
        except MultipartParseError as cause:
            raise _malformed(str(cause)) from cause
        events, self._events = self._events, []
        return iter(events)

    def finish(self) -> None:
        """No more bytes will come. Raises `InvalidRequest` if the form is cut off."""
        if not self._is_complete:
            raise _malformed("it ends before its last boundary")

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > _MOST_PARTS:
            raise _malformed(f"it has more than {_MOST_PARTS} parts")
        self._headers.clear()

    def _end_header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _start_content(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("a part has no name")
        filename = options.get(b"filename")
        media_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self._events.append(
            PartStart(_text(options[b"name"]), None if filename is None else _text(filename), media_type)
        )

    def _end(self) -> None:
        self._is_complete = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise _malformed("a name is not UTF-8") from cause


def _malformed(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The request body is not a valid form: {reason}")
