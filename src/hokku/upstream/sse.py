"""Server-sent events out of bytes that somebody else sends (WHATWG HTML, section 9.2).

Libraries for this read a line, and an event, however long it is; here both are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hokku.protocol.errors import UpstreamFailed

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `name` is "message" where the sender gives none."""

    name: str
    data: str


class SseReader:
    """Takes bytes as they come, cut anywhere; gives events as they become whole.

    Args:
        max_event_bytes: of one event, its line under way included.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._after_return = False  # the last byte was CR: a LF that follows is part of that line's end
        self._is_first_line = True
        self._name = ""
        self._data: list[bytes] = []
        self._num_bytes = 0  # of the event under way, without its line under way

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that are whole now. Raises `UpstreamFailed` for one that is too large."""
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
        self._after_return = data.endswith(b"\r")
        events: list[ServerEvent] = []
        head, *others = _LINE_END.split(data)
        self._extend(head)
        for part in others:
            events += self._end_line()
            self._extend(part)
        return events

    def _extend(self, part: bytes) -> None:
        self._line += part
        if self._num_bytes + len(self._line) > self._max_event_bytes:
            raise UpstreamFailed(f"the service sent an event of more than {self._max_event_bytes} bytes")

    def _end_line(self) -> list[ServerEvent]:
        line = bytes(self._line)
        self._line.clear()
        self._num_bytes += len(line) + 1
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._end_event()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value.decode(errors="replace")
        return []

    def _end_event(self) -> list[ServerEvent]:
        name, data = self._name, self._data
        self._name, self._data, self._num_bytes = "", [], 0
        if not data:
            return []
        return [ServerEvent(name or "message", b"\n".join(data).decode(errors="replace"))]
