"""Frames of `application/vnd.amazon.eventstream`, the way this wire streams (wire.md section 16.3).

    total length | headers' length | CRC32 of both | headers | payload | CRC32 of everything before

Numbers are big-endian and of 32 bits; lengths are in bytes, the total includes itself.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from zlib import crc32

MEDIA_TYPE = "application/vnd.amazon.eventstream"
NUM_BYTES_AROUND = 16  # of a frame, besides headers and payload

_PRELUDE = Struct(">II")
_CHECKSUM = Struct(">I")
_STRING = b"\x07"  # the type of a header's value; the only one that this wire uses


def event_frame(event_type: str, payload: bytes) -> bytes:
    """A frame of data; `payload` is JSON."""
    return frame(_headers("event", ":event-type", event_type), payload)


def exception_frame(exception_type: str, payload: bytes) -> bytes:
    """The last frame of a stream that cannot go on; `exception_type` is a member of the stream's union."""
    return frame(_headers("exception", ":exception-type", exception_type), payload)


def frame(headers: bytes, payload: bytes) -> bytes:
    """A whole frame around encoded headers."""
    prelude = _PRELUDE.pack(NUM_BYTES_AROUND + len(headers) + len(payload), len(headers))
    checked = crc32(prelude)
    summed = b"".join((prelude, _CHECKSUM.pack(checked), headers, payload))
    return summed + _CHECKSUM.pack(crc32(summed))


# A stream's frames have one of about ten sets of headers.
@cache
def _headers(message_type: str, name: str, value: str) -> bytes:
    fields = ((name, value), (":content-type", "application/json"), (":message-type", message_type))
    return b"".join(_header(*each) for each in fields)


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return b"".join((bytes([len(name)]), name.encode(), _STRING, len(text).to_bytes(2), text))
