"""A reply as Converse tells it, whole and streamed, read by AWS's own client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.parsers import create_parser

from hokku.api.bedrock.converse_body import AnswerForm
from hokku.api.bedrock.converse_reply import ReplyTeller, pointed_out, usage_object
from hokku.api.bedrock.event_stream import event_frame
from hokku.protocol.citations import BlockLocation, CharLocation, Citation, PageLocation, SearchResultLocation
from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CitationDelta,
    InputDelta,
    Reply,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    TextBlock,
    TextDelta,
    ToolUseBlock,
    Usage,
    fold,
)
from tests.api.bedrock.service_model import RUNTIME

Json = dict[str, Any]
USAGE = Usage(10, 5, cache_read_tokens=3, cache_write_5m_tokens=2, cache_write_1h_tokens=1)
USAGE_TOLD = {
    "inputTokens": 10,
    "outputTokens": 5,
    "totalTokens": 21,
    "cacheReadInputTokens": 3,
    "cacheWriteInputTokens": 3,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 1}, {"ttl": "5m", "inputTokens": 2}],
}
EVENTS: list[ReplyEvent] = [
    ReplyStart("msg_1", "claude", Usage(10, 1)),
    BlockStart(0, TextBlock()),
    TextDelta(0, 'Grüß "dich" '),
    TextDelta(0, "😀"),
    BlockStop(0),
    BlockStart(1, TextBlock()),
    TextDelta(1, " It is blue."),
    CitationDelta(1, CharLocation("Blue.", 0, "Sky", 4, 9)),
    BlockStop(1),
    BlockStart(2, ToolUseBlock("toolu_1", "weather")),
    InputDelta(2, '{"city": '),
    InputDelta(2, '"Köln"}'),
    BlockStop(2),
    ReplyEnd("tool_use", None, USAGE),
]
CITATION_TOLD = {
    "title": "Sky",
    "sourceContent": [{"text": "Blue."}],
    "location": {"documentChar": {"documentIndex": 0, "start": 4, "end": 9}},
}


def read_whole(reply: Reply, form: AnswerForm | None = None) -> Json:
    """The answer as boto3 gives it."""
    body = json.dumps(ReplyTeller(form or AnswerForm(), 0.0).whole(reply)).encode()
    answer = {"status_code": 200, "headers": {}, "body": body}
    shape = RUNTIME.operation_model("Converse").output_shape
    parsed: Json = create_parser("rest-json").parse(answer, shape)
    parsed.pop("ResponseMetadata")
    return parsed


def read_stream(events: list[ReplyEvent], form: AnswerForm | None = None) -> list[Json]:
    """The events as boto3 gives them."""
    buffer = EventStreamBuffer()
    for event_type, payload in ReplyTeller(form or AnswerForm(), 0.0).events(events):
        buffer.add_data(event_frame(event_type, payload.encode()))
    shape = RUNTIME.shape_for("ConverseStreamOutput")
    parser = create_parser("rest-json")._event_stream_parser
    return [parser.parse(message.to_response_dict(), shape) for message in buffer]


def test_a_whole_reply() -> None:
    told = read_whole(fold(EVENTS))
    assert told.pop("metrics")["latencyMs"] > 0
    assert told == {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"text": 'Grüß "dich" 😀'},
                    {
                        "citationsContent": {
                            "content": [{"text": " It is blue."}],
                            "citations": [CITATION_TOLD],
                        }
                    },
                    {"toolUse": {"toolUseId": "toolu_1", "name": "weather", "input": {"city": "Köln"}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": USAGE_TOLD,
    }


def test_a_streamed_reply() -> None:
    *told, metadata = read_stream(EVENTS)
    assert told == [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": 'Grüß "dich" '}}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "😀"}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": " It is blue."}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"citation": CITATION_TOLD}}},
        {"contentBlockStop": {"contentBlockIndex": 1}},
        {
            "contentBlockStart": {
                "contentBlockIndex": 2,
                "start": {"toolUse": {"toolUseId": "toolu_1", "name": "weather"}},
            }
        },
        {"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"city": '}}}},
        {"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '"Köln"}'}}}},
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    assert metadata["metadata"].pop("metrics")["latencyMs"] > 0
    assert metadata == {"metadata": {"usage": USAGE_TOLD}}


def test_what_is_asked_for_besides_is_told_both_ways() -> None:
    paths = ("/stop_sequence", "/usage/input_tokens", "/content/0/text", "/nothing/here")
    form = AnswerForm(paths, "optimized", "flex")
    events = [*EVENTS[:-1], ReplyEnd("stop_sequence", "END", USAGE)]
    fields = {
        "stop_sequence": "END",
        "usage": {"input_tokens": 10},
        "content": {"0": {"text": 'Grüß "dich" 😀'}},
    }
    whole = read_whole(fold(events), form)
    *_, stop, metadata = read_stream(events, form)
    for told, besides in ((whole, whole), (stop["messageStop"], metadata["metadata"])):
        assert told["additionalModelResponseFields"] == fields
        assert besides["performanceConfig"] == {"latency": "optimized"}
        assert besides["serviceTier"] == {"type": "flex"}


@pytest.mark.parametrize(
    ("pointers", "found"),
    [
        (["/a"], {"a": [1, {"b/c": 2}]}),
        (["/a/1/b~1c"], {"a": {"1": {"b/c": 2}}}),
        (["/a", "/a/0"], {"a": [1, {"b/c": 2}]}),
        (["/a/0", "/a"], {"a": [1, {"b/c": 2}]}),
        (["/a/01", "/a/-", "/a/2", "/a/²", "/a/99999999999", "/none", "/n/deeper", "/"], {}),
        (["/n", "/~0"], {"n": None, "~": 0}),
    ],
)
def test_pointers(pointers: list[str], found: Json) -> None:
    assert pointed_out({"a": [1, {"b/c": 2}], "n": None, "~": 0}, pointers) == found


@pytest.mark.parametrize(
    ("citation", "location"),
    [
        (PageLocation("x", 1, None, 2, 3), {"documentPage": {"documentIndex": 1, "start": 2, "end": 3}}),
        (BlockLocation("x", 0, None, 0, 2), {"documentChunk": {"documentIndex": 0, "start": 0, "end": 2}}),
        (
            SearchResultLocation("x", 1, "https://a", "A", 0, 1),
            {"searchResultLocation": {"searchResultIndex": 1, "start": 0, "end": 1}},
        ),
    ],
)
def test_every_kind_of_citation(citation: Citation, location: Json) -> None:
    reply = Reply("msg_1", "claude", (TextBlock("y", (citation,)),), "end_turn", None, Usage(1, 1))
    (block,) = read_whole(reply)["output"]["message"]["content"]
    (told,) = block["citationsContent"]["citations"]
    named = {"title": "A", "source": "https://a"} if isinstance(citation, SearchResultLocation) else {}
    assert told == {**named, "sourceContent": [{"text": "x"}], "location": location}


def test_stop_reasons_are_words_of_the_contract() -> None:
    known = RUNTIME.shape_for("StopReason").enum
    for reason in ("end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"):
        assert read_whole(Reply("m", "c", (), reason, None, Usage(1, 1)))["stopReason"] == reason
        assert reason in known
    refused = read_whole(Reply("m", "c", (), "refusal", None, Usage(1, 1)))
    assert refused["stopReason"] == "content_filtered"


def test_nothing_written_has_no_details() -> None:
    assert usage_object(Usage(1, 2))["cacheDetails"] == []
