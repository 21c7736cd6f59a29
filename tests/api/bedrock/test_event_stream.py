"""Frames, read back by the decoders of botocore and of the Anthropic SDK's dependency."""

from __future__ import annotations

import json

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer, EventStreamMessage
from hypothesis import given
from hypothesis import strategies as st

from hokku.api.bedrock.event_stream import NUM_BYTES_AROUND, event_frame, exception_frame


def read(data: bytes) -> list[EventStreamMessage]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


def test_frames_come_back_as_they_went_in() -> None:
    first = event_frame("chunk", b'{"bytes":"e30="}')
    last = exception_frame("throttlingException", json.dumps({"message": "Ü"}).encode())
    messages = read(first + last)
    assert [message.headers for message in messages] == [
        {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"},
        {
            ":exception-type": "throttlingException",
            ":content-type": "application/json",
            ":message-type": "exception",
        },
    ]
    assert [json.loads(message.payload) for message in messages] == [{"bytes": "e30="}, {"message": "Ü"}]


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=299))
def test_any_payload_however_cut(payload: bytes, at: int) -> None:
    data = event_frame("chunk", payload)
    buffer = EventStreamBuffer()
    payloads = []
    for piece in (data[:at], data[at:]):
        buffer.add_data(piece)
        payloads += [message.payload for message in buffer]
    assert payloads == [payload]


def test_both_checksums_are_there() -> None:
    data = event_frame("chunk", b"{}")
    for at in (2, len(data) - 6):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(ChecksumMismatch):
            read(bytes(broken))


def test_a_frame_says_how_long_it_is() -> None:
    data = event_frame("chunk", b"{}")
    total, headers = int.from_bytes(data[:4]), int.from_bytes(data[4:8])
    assert total == len(data) == NUM_BYTES_AROUND + headers + len(b"{}")
