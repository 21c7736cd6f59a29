"""Frames of `application/vnd.amazon.eventstream`, the way this wire streams (wire.md section 16.3).

    total length | headers' length | CRC32 of both | headers | payload | CRC32 of everything before

Numbers are big-endian and of 32 bits; lengths are in bytes, the total includes itself.
"""

from __future__ import annotations

from functools import lru_cache, partial
from struct import Struct
from zlib import crc32

MEDIA_TYPE = "application/vnd.amazon.eventstream"
NUM_BYTES_AROUND = 16  # of a frame, besides headers and payload

_LENGTHS = Struct(">II")
_STRING = b"\x07"  # the type of a header's value; the only one that this wire uses


def event_frame(event_type: str, payload: bytes) -> bytes:
    """A frame of data; `payload` is JSON."""
    return _events_of(event_type).frame(payload)


def exception_frame(exception_type: str, payload: bytes) -> bytes:
    """The last frame of a stream that cannot go on; `exception_type` is a member of the stream's union."""
    return FrameMaker("exception", ":exception-type", exception_type).frame(payload)


class FrameMaker:
    """Makes frames that have the same headers."""

    def __init__(self, message_type: str, name: str, value: str) -> None:
        fields = ((name, value), (":content-type", "application/json"), (":message-type", message_type))
        self._headers = b"".join(_header(*each) for each in fields)
        # Payloads are short: most openings were made before.
        self._opening = lru_cache(1024)(self._new_opening)

    def frame(self, payload: bytes) -> bytes:
        """A frame around some JSON."""
        opening, checksum = self._opening(len(payload))
        return b"".join((opening, payload, crc32(payload, checksum).to_bytes(4)))

    def _new_opening(self, num_payload_bytes: int) -> tuple[bytes, int]:
        """Everything before a payload, and its checksum."""
        total = NUM_BYTES_AROUND + len(self._headers) + num_payload_bytes
        lengths = _LENGTHS.pack(total, len(self._headers))
        opening = b"".join((lengths, crc32(lengths).to_bytes(4), self._headers))
        return opening, crc32(opening)


_events_of = lru_cache(16)(partial(FrameMaker, "event", ":event-type"))


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return b"".join((bytes([len(name)]), name.encode(), _STRING, len(text).to_bytes(2), text))
