"""The reader of server-sent events: any cut, any line end, nothing without bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.protocol.errors import UpstreamFailed
from hokku.upstream.sse import ServerEvent, SseReader

STREAM = (
    "\ufeffevent: one\ndata: 1\n\n: note\r\n\r\ndata:a\rdata: b\r\r"
    "event: none\n\nid: 3\ndata\n\ndata: ü\n\ndata: cut"
)
EVENTS = [
    ServerEvent("one", "1"),
    ServerEvent("message", "a\nb"),
    ServerEvent("message", ""),
    ServerEvent("message", "ü"),
]


@given(st.lists(st.integers(0, len(STREAM.encode()))))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int]) -> None:
    data, reader = STREAM.encode(), SseReader(1_000)
    places = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


@given(st.lists(st.binary()))
def test_bytes_of_any_kind_are_read(pieces: list[bytes]) -> None:
    reader = SseReader(1 << 20)
    for piece in pieces:
        for event in reader.feed(piece):
            assert isinstance(event.data, str)


@pytest.mark.parametrize("line", [b"data: x", b"data: x\n", b": x\n", b"x\n", b"event: x\n"])
def test_an_event_may_not_be_endless(line: bytes) -> None:
    reader = SseReader(10_000)
    with pytest.raises(UpstreamFailed, match="an event of more than 10000 bytes"):
        [reader.feed(line) for _ in range(10_000)]


def test_the_bound_is_of_one_event() -> None:
    reader = SseReader(100)
    events = [event for _ in range(1_000) for event in reader.feed(b"data: " + b"x" * 80 + b"\n\n")]
    assert len(events) == 1_000
