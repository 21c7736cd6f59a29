"""The one order of events, and whole characters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.protocol.errors import UpstreamFailed
from hokku.protocol.events import ReplyEvent, Usage, fold
from hokku.upstream.writer import ReplyWriter
from tests.upstream.services import check_order

TEXT = "a\N{GRINNING FACE}ü\N{ROCKET}z"
UTF16 = [chr(int.from_bytes(TEXT.encode("utf-16-le")[at : at + 2], "little")) for at in range(0, 14, 2)]


@given(st.lists(st.integers(0, len(UTF16))))
def test_a_character_told_in_two_events_is_one(cuts: list[int]) -> None:
    writer = ReplyWriter()
    events = writer.start("msg_1", "m", Usage(1, 1))
    places = [0, *sorted(cuts), len(UTF16)]
    for start, end in pairwise(places):
        events += writer.text("".join(UTF16[start:end]))
    events += writer.end("end_turn", None, Usage(1, 2))
    check_order(events)
    assert fold(events).text == TEXT


def test_half_a_character_alone_is_replaced() -> None:
    writer = ReplyWriter()
    events = writer.start("msg_1", "m", Usage(1, 1))
    events += [*writer.text("a\ud83d"), *writer.text("b\udc00c"), *writer.text("\ud83d")]
    events += writer.end("end_turn", None, Usage(1, 2))
    assert fold(events).text == "a\ufffdb\ufffdc\ufffd"


STEPS: dict[str, Callable[[ReplyWriter], list[ReplyEvent]]] = {
    "start": lambda writer: writer.start("msg_1", "m", Usage(1, 1)),
    "open_text": ReplyWriter.open_text,
    "text": lambda writer: writer.text("x\ud83d"),
    "open_call": lambda writer: writer.open_call("toolu_1", "f"),
    "nameless": lambda writer: writer.open_call("toolu_1", ""),
    "call_input": lambda writer: writer.call_input('{"a":"\ud83d'),
    "close": ReplyWriter.close,
    "end": lambda writer: writer.end("end_turn", None, Usage(1, 2)),
}


@given(st.lists(st.sampled_from(sorted(STEPS))))
def test_whatever_is_asked_of_it_the_order_holds(steps: list[str]) -> None:
    writer = ReplyWriter()
    events: list[ReplyEvent] = []
    try:
        for step in steps:
            events += STEPS[step](writer)
    except UpstreamFailed:
        pass
    check_order(events)


def test_steps_that_mean_nothing() -> None:
    writer = ReplyWriter()
    for step in ("text", "open_call", "nameless", "call_input", "end"):
        with pytest.raises(UpstreamFailed):
            STEPS[step](writer)
    writer.start("msg_1", "m", Usage(1, 1))
    writer.end("end_turn", None, Usage(1, 2))
    for step in ("start", "text", "open_call", "end"):
        with pytest.raises(UpstreamFailed):
            STEPS[step](writer)
