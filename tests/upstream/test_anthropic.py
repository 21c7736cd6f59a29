"""The Messages form: what is asked is what our own wire reads back, and replies come out as they went in."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.messages_body import parse_messages_body
from hokku.api.anthropic.sse import event_frames
from hokku.api.config import Compatibility
from hokku.protocol.citations import (
    BlockLocation,
    CharLocation,
    Citation,
    PageLocation,
    SearchResultLocation,
)
from hokku.protocol.errors import (
    HokkuError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    UpstreamFailed,
)
from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    CitationDelta,
    InputDelta,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    TextBlock,
    TextDelta,
    ToolUseBlock,
    Usage,
)
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    PdfFile,
    PlainText,
    SamplingParameters,
    SearchResultPart,
    StoredFile,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
    ToolUsePart,
    Turn,
    UrlFile,
    plain_text,
)
from hokku.upstream.anthropic import AnthropicForm, messages_body
from hokku.upstream.config import UpstreamConfig
from hokku.upstream.sse import ServerEvent, SseReader
from tests.upstream.services import KEY, asking, check_order

CONFIG = UpstreamConfig("https://models.example", "theirs", KEY)
DIALECT = Dialect("2023-06-01", frozenset(), Compatibility.FRIENDLY)
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
TOOLS = (
    Tool("look", "Looks.", SCHEMA, is_strict=True),
    Tool("bare", "", {"type": "object"}, cache_secs=3600),
)
TALK = (
    Turn("user", (TextPart("Hi"), TextPart("there", cache_secs=300))),
    Turn(
        "assistant",
        (TextPart("Well"), ToolUsePart("toolu_1", "look", {"a": "ü"}), ToolUsePart("toolu_2", "bare", {})),
    ),
    Turn(
        "user",
        (
            ToolResultPart("toolu_1", (TextPart("seen"),)),
            ToolResultPart("toolu_2", (), is_error=True),
            TextPart("And?"),
        ),
    ),
)


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation((), (Turn("user", (TextPart("Hi"),)),)),
        Conversation((TextPart("Be brief.", cache_secs=3600),), TALK[:1]),
        Conversation((), (*TALK[:1], Turn("assistant", (TextPart("Once"),)))),
        Conversation((), TALK, TOOLS),
        Conversation((), TALK, TOOLS, ToolChoice("any", is_parallel=False)),
        Conversation((), TALK, TOOLS, ToolChoice("tool", "look")),
        Conversation((), TALK, TOOLS, ToolChoice("none")),
        Conversation((), TALK[:1], output_schema=SCHEMA),
    ],
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stop_sequences": ("a", "\nb"), "user_id": "u-1"},
        {"sampling": SamplingParameters(0.5, 0.25, 3)},
    ],
)
def test_the_service_is_asked_what_the_client_asked(
    conversation: Conversation, changes: dict[str, Any]
) -> None:
    request = asking(conversation=conversation, **changes)
    body = json.loads(json.dumps(messages_body(request, "one")))
    assert parse_messages_body(body, DIALECT).request == request


def test_sampling_that_is_the_api_s_own_is_not_spoken_of() -> None:
    """Newer models take none of it, and some not two of them."""
    body = messages_body(asking(sampling=SamplingParameters(1.0, 0.5, 0)), "theirs")
    assert {"temperature", "top_p", "top_k"} & body.keys() == {"top_p"}


@pytest.mark.parametrize(
    ("change", "what"), [({"seed": 7}, "a seed"), ({"conversation": plain_text("Once")}, "a text without")]
)
def test_what_the_form_has_no_words_for_is_refused_by_name(change: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        messages_body(asking(**change), "theirs")


def test_headers() -> None:
    asked = AnthropicForm().http_request(asking(window_overrun_allowed=True), CONFIG)
    assert asked.path == "/v1/messages"
    assert asked.headers == {
        "anthropic-version": "2023-06-01",
        "x-api-key": KEY,
        "anthropic-beta": "model-context-window-exceeded-2025-08-26",
    }
    asked = AnthropicForm().http_request(asking(), UpstreamConfig("https://models.example", "theirs"))
    assert asked.headers == {"anthropic-version": "2023-06-01"}


def test_attachments_go_on_as_they_came() -> None:
    inline, by_url = InlineFile("image/png", b"\x01\x02", "p"), UrlFile("https://a.example/b.pdf", "p")
    parts = (
        ImagePart(inline, "p", cache_secs=300),
        ImagePart(UrlFile("https://a.example/b.png", "p"), "p", may_shrink=False),
        DocumentPart(PlainText("Plain."), "p", title="T", context="C", is_cited=True),
        DocumentPart(PdfFile(by_url, pages=("read here",)), "p"),
        DocumentPart(PdfFile(InlineFile("application/pdf", b"%PDF", "p")), "p", cache_secs=3600),
        DocumentPart(ContentBlocks((TextPart("One."), ImagePart(inline, "p"))), "p"),
        SearchResultPart("https://a.example", "Found", (TextPart("Yes."),), is_cited=True),
    )
    png = {"type": "base64", "media_type": "image/png", "data": "AQI="}
    expected = [
        {"type": "image", "source": png, "cache_control": {"type": "ephemeral"}},
        {
            "type": "image",
            "source": {"type": "url", "url": "https://a.example/b.png"},
            "transformations": {"oversized_image": "error"},
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Plain."},
            "title": "T",
            "context": "C",
            "citations": {"enabled": True},
        },
        {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {
            "type": "document",
            "source": {
                "type": "content",
                "content": [{"type": "text", "text": "One."}, {"type": "image", "source": png}],
            },
        },
        {
            "type": "search_result",
            "source": "https://a.example",
            "title": "Found",
            "content": [{"type": "text", "text": "Yes."}],
            "citations": {"enabled": True},
        },
    ]
    said = Conversation((), (Turn("user", parts),))
    assert messages_body(asking(conversation=said), "theirs")["messages"][0]["content"] == expected
    result = Conversation((), (Turn("user", (ToolResultPart("toolu_1", parts),)),))
    (block,) = messages_body(asking(conversation=result), "theirs")["messages"][0]["content"]
    assert block["content"] == expected


def test_a_file_of_ours_is_unknown_there() -> None:
    picture = Conversation((), (Turn("user", (ImagePart(StoredFile("file_1", "here"), "p"),)),))
    with pytest.raises(InvalidRequest, match="here: a file of this server is unknown"):
        messages_body(asking(conversation=picture), "theirs")


USAGE = Usage(3, 1, 4, 5, 6, service_tier="priority")
CITATIONS: list[Citation] = [
    CharLocation("said", 0, "T", 1, 5),
    PageLocation("said", 1, None, 1, 2),
    BlockLocation("said", 2, "T", 0, 1),
    SearchResultLocation("said", 3, "https://a.example", "Found", 0, 1),
]
EVENTS: list[ReplyEvent] = [
    ReplyStart("msg_01abc", "claude-3-5-haiku-20241022", USAGE),
    BlockStart(0, TextBlock()),
    TextDelta(0, "Grüße, 世界 😀 \u2028"),
    *(CitationDelta(0, citation) for citation in CITATIONS),
    BlockStop(0),
    BlockStart(1, ToolUseBlock("toolu_01abc", "look")),
    InputDelta(1, '{"a": "'),
    InputDelta(1, 'ü"}'),
    BlockStop(1),
    ReplyEnd("tool_use", None, USAGE),
]


def read(frames: str | bytes) -> list[ReplyEvent]:
    data = frames.encode() if isinstance(frames, str) else frames
    reader = AnthropicForm().reader(asking(), CONFIG)
    events = [
        said for event in SseReader(1 << 20).feed(data) if not reader.has_ended for said in reader.read(event)
    ]
    return events if reader.has_ended else [*events, *reader.finish()]


def test_a_reply_comes_out_as_it_went_in() -> None:
    assert read("".join(map(event_frames, EVENTS))) == EVENTS


def frames(*events: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


START = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}}}
STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}


def started(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stopped(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_what_requests_of_ours_cannot_ask_for_is_passed_over() -> None:
    events = read(
        frames(
            START | {"new": 1},
            {"type": "ping"},
            started(0, type="thinking", thinking=""),
            delta(0, type="thinking_delta", thinking="Hm"),
            stopped(0),
            {"type": "invented"},
            started(1, type="text", text="He"),
            delta(1, type="text_delta", text="llo"),
            delta(1, type="invented_delta", text="x"),
            delta(1, type="citations_delta", citation={"type": "web_search_result_location"}),
            delta(1, type="citations_delta", citation={"type": "char_location"}),
            stopped(1),
            STOP,
            {"type": "message_stop", "amazon-bedrock-invocationMetrics": {}},
        )
    )
    assert events == [
        ReplyStart("msg_1", "m", Usage(3, 1)),
        BlockStart(0, TextBlock()),
        TextDelta(0, "He"),
        TextDelta(0, "llo"),
        BlockStop(0),
        ReplyEnd("end_turn", None, Usage(3, 7)),
    ]


def test_names_that_cannot_be_passed_on_are_replaced() -> None:
    named = {"id": "a b\n", "model": "evil\r\nheader: x"}
    start, *_, end = read(frames({"type": "message_start", "message": named}, STOP))
    assert isinstance(start, ReplyStart)
    assert start.model == "theirs"
    assert start.id.startswith("msg_")
    assert " " not in start.id
    assert end == ReplyEnd("end_turn", None, Usage(0, 7))


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"cache_creation_input_tokens": 5}, Usage(3, 1, 0, 5, 0)),
        (
            {"cache_creation_input_tokens": 5, "cache_creation": {"ephemeral_1h_input_tokens": 9}},
            Usage(3, 1, 0, 0, 5),
        ),
        ({"cache_read_input_tokens": 4, "output_tokens": None}, Usage(3, 1, 4)),
        ({"input_tokens": -3, "output_tokens": 10**30, "service_tier": 3}, Usage(0, 10**12)),
        ({"input_tokens": True, "service_tier": "gold"}, Usage(3, 1)),
    ],
)
def test_usage(said: dict[str, Any], usage: Usage) -> None:
    end = read(frames(START, STOP | {"usage": said}))[-1]
    assert isinstance(end, ReplyEnd)
    assert end.usage == usage


@pytest.mark.parametrize(
    ("reason", "known"),
    [("max_tokens", "max_tokens"), ("refusal", "refusal"), ("pause_turn", "end_turn")],
)
def test_stop_reasons(reason: str, known: str) -> None:
    end = read(frames(START, {"type": "message_delta", "delta": {"stop_reason": reason}}))[-1]
    assert isinstance(end, ReplyEnd)
    assert end.stop_reason == known


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([], "broke off"),
        ([START], "broke off"),
        ([STOP], "has not begun"),
        ([START, START], "began its reply twice"),
        ([started(0, type="text")], "has not begun"),
        ([START, started(0, type="text"), started(1, type="text")], "a block inside another"),
        ([START, delta(0, type="text_delta", text="x")], "a block that is not open"),
        ([START, started(0, type="text"), delta(1, type="text_delta", text="x")], "not open"),
        ([START, started(0, type="text"), delta(0, type="input_json_delta", partial_json="x")], "no call"),
        ([START, started(0, type="tool_use", id="toolu_1")], "without a name"),
        ([{"type": "error"}], "the service answered 500"),
        ([{"type": "error", "error": {"type": "api_error", "message": f"Oh {KEY}"}}], "500: Oh …"),
        ([{"type": "error", "error": {"type": "authentication_error"}}], "refused this server's key"),
    ],
)
def test_streams_that_cannot_be_read(events: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UpstreamFailed, match=says):
        read(frames(*events))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", Overloaded),
        ("rate_limit_error", RateLimited),
        ("invalid_request_error", InvalidRequest),
    ],
)
def test_errors_in_a_stream(kind: str, error: type[HokkuError]) -> None:
    with pytest.raises(error, match="Sorry"):
        read(frames(START, {"type": "error", "error": {"type": kind, "message": "Sorry"}}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
PIECES = st.sampled_from(
    [
        START,
        STOP,
        {"type": "message_stop"},
        started(0, type="text", text="x"),
        started(1, type="tool_use", id="toolu_1", name="f"),
        started(1, type="thinking"),
        delta(0, type="text_delta", text="\ud83d"),
        delta(1, type="text_delta", text="\ude00"),
        delta(1, type="input_json_delta", partial_json="{"),
        delta(0, type="citations_delta", citation={"type": "page_location"}),
        stopped(0),
        stopped(1),
        {"type": "error", "error": {"type": "overloaded_error"}},
    ]
)


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, Any]:
    """An event of the form, of which one member holds something else."""
    event = json.loads(json.dumps(draw(PIECES)))
    holders = [event, *(value for value in event.values() if isinstance(value, dict))]
    holder = draw(st.sampled_from(holders))
    holder[draw(st.sampled_from(sorted(holder) or ["x"]))] = draw(JSON)
    return event  # type: ignore[no-any-return]


@given(st.lists(PIECES | spoiled()))
def test_whatever_a_service_sends_the_order_of_events_holds(sent: list[dict[str, Any]]) -> None:
    reader = AnthropicForm().reader(asking(), CONFIG)
    events: list[ReplyEvent] = []
    try:
        for each in sent:
            if not reader.has_ended:
                events += reader.read(ServerEvent("message", json.dumps(each)))
    except HokkuError:
        pass
    check_order(events)
    for event in events:
        event_frames(event)


@given(st.text())
def test_what_is_no_json_object_is_refused(data: str) -> None:
    reader = AnthropicForm().reader(asking(), CONFIG)
    with suppress(UpstreamFailed):
        assert reader.read(ServerEvent("message", data)) == []


@pytest.mark.parametrize("data", ["[" * 100_000, "1" * 10_000, '"x"', "{", ""])
def test_json_that_is_meant_to_break_the_reader(data: str) -> None:
    with pytest.raises(UpstreamFailed, match="no JSON"):
        AnthropicForm().reader(asking(), CONFIG).read(ServerEvent("message", data))
