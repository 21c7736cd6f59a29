"""Frames of `application/vnd.amazon.eventstream`, the way this wire streams (wire.md section 16.3).

    total length | headers' length | CRC32 of both | headers | payload | CRC32 of everything before

Numbers are big-endian and of 32 bits; lengths are in bytes, the total includes itself.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from zlib import crc32

MEDIA_TYPE = "application/vnd.amazon.eventstream"
NUM_BYTES_AROUND = 16  # of a frame, besides headers and payload

_LENGTHS = Struct(">II")
_STRING = b"\x07"  # the type of a header's value; the only one that this wire uses


def event_frame(event_type: str, payload: bytes) -> bytes:
    """A frame of data; `payload` is JSON."""
    return _summed(_opening("event", ":event-type", event_type, len(payload)) + payload)


def exception_frame(exception_type: str, payload: bytes) -> bytes:
    """The last frame of a stream that cannot go on; `exception_type` is a member of the stream's union."""
    return _summed(_opening("exception", ":exception-type", exception_type, len(payload)) + payload)


# A stream's frames have one of about ten sets of headers, and short payloads: most openings were made before.
@lru_cache(4096)
def _opening(message_type: str, name: str, value: str, num_payload_bytes: int) -> bytes:
    """Everything before the payload."""
    fields = ((name, value), (":content-type", "application/json"), (":message-type", message_type))
    headers = b"".join(_header(*each) for each in fields)
    lengths = _LENGTHS.pack(NUM_BYTES_AROUND + len(headers) + num_payload_bytes, len(headers))
    return _summed(lengths) + headers


def _summed(frame: bytes) -> bytes:
    return frame + crc32(frame).to_bytes(4)


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return b"".join((bytes([len(name)]), name.encode(), _STRING, len(text).to_bytes(2), text))
