"""The Chat Completions form: what has words is translated, what has none is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.protocol.errors import HokkuError, InvalidRequest, Overloaded, RateLimited, UpstreamFailed
from hokku.protocol.events import Reply, ReplyEnd, ReplyEvent, TextBlock, ToolUseBlock, Usage, fold
from hokku.protocol.messages import (
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    Part,
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
from hokku.upstream.config import UpstreamConfig
from hokku.upstream.openai import OpenAiForm, chat_body
from hokku.upstream.sse import ServerEvent, SseReader
from tests.upstream.services import KEY, asking, check_order, sse
from tests.upstream.test_anthropic import JSON

CONFIG = UpstreamConfig("https://models.example/v1", "theirs", KEY)
SCHEMA = {"type": "object", "additionalProperties": False}
TOOLS = (Tool("look", "Looks.", SCHEMA, is_strict=True, cache_secs=300), Tool("bare", "", SCHEMA))


def body_of(*parts: Part, **changes: Any) -> dict[str, Any]:
    return chat_body(asking(conversation=Conversation((), (Turn("user", parts),)), **changes), CONFIG)


def test_a_plain_request() -> None:
    asked = OpenAiForm().http_request(asking(user_id="u-1", stop_sequences=("a", "b")), CONFIG)
    assert (asked.path, asked.headers) == ("/chat/completions", {"authorization": f"Bearer {KEY}"})
    assert asked.body == {
        "model": "theirs",
        "max_tokens": 100,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Hi"}],
        "stop": ["a", "b"],
        "user": "u-1",
    }
    keyless = UpstreamConfig("https://models.example/v1", "theirs", output_limit_key="max_completion_tokens")
    asked = OpenAiForm().http_request(asking(sampling=SamplingParameters(0.5, 0.25)), keyless)
    assert asked.headers == {}
    assert (asked.body["max_completion_tokens"], "max_tokens" in asked.body) == (100, False)
    assert (asked.body["temperature"], asked.body["top_p"]) == (0.5, 0.25)


def test_turns_calls_and_results() -> None:
    conversation = Conversation(
        (TextPart("Be brief.", cache_secs=300), TextPart("Be kind.")),
        (
            Turn("user", (TextPart("Hi"), TextPart("there"))),
            Turn(
                "assistant",
                (
                    TextPart("We"),
                    TextPart("ll", continues=True),
                    ToolUsePart("toolu_1", "look", {"a": "ü"}),
                    ToolUsePart("toolu_2", "bare", {}),
                ),
            ),
            Turn(
                "user",
                (
                    ToolResultPart("toolu_1", (TextPart("seen"), TextPart("twice"))),
                    ToolResultPart("toolu_2", (TextPart("none"),), is_error=True),
                    TextPart("And?"),
                ),
            ),
            Turn("assistant", (ToolUsePart("toolu_3", "bare", {}),)),
            Turn("user", (ToolResultPart("toolu_3"),)),
        ),
    )
    calls = [
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "look", "arguments": '{"a": "ü"}'},
        },
        {"id": "toolu_2", "type": "function", "function": {"name": "bare", "arguments": "{}"}},
    ]
    assert chat_body(asking(conversation=conversation), CONFIG)["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Hi\n\nthere"},
        {"role": "assistant", "content": "Well", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "seen\n\ntwice"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: none"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": None, "tool_calls": [calls[1] | {"id": "toolu_3"}]},
        {"role": "tool", "tool_call_id": "toolu_3", "content": ""},
    ]


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        (ToolChoice(), {"tool_choice": "auto"}),
        (ToolChoice("none"), {"tool_choice": "none"}),
        (ToolChoice("any", is_parallel=False), {"tool_choice": "required", "parallel_tool_calls": False}),
        (
            ToolChoice("tool", "look"),
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
        ),
    ],
)
def test_tools(choice: ToolChoice, fields: dict[str, Any]) -> None:
    conversation = Conversation((), (Turn("user", (TextPart("Hi"),)),), TOOLS, choice)
    body = chat_body(asking(conversation=conversation), CONFIG)
    look = {"name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}
    bare = {"name": "bare", "parameters": SCHEMA}
    assert body["tools"] == [{"type": "function", "function": each} for each in (look, bare)]
    found = {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body}
    assert found == fields


def test_structured_output() -> None:
    conversation = Conversation((), (Turn("user", (TextPart("Hi"),)),), output_schema=SCHEMA)
    asked = chat_body(asking(conversation=conversation), CONFIG)["response_format"]
    assert asked == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
    }


def test_images() -> None:
    body = body_of(
        TextPart("Look"),
        ImagePart(InlineFile("image/png", b"\x01\x02", "p"), "p"),
        ImagePart(UrlFile("https://a.example/b.png", "p"), "p"),
    )
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQI="}},
        {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
    ]


PICTURE = ImagePart(InlineFile("image/png", b"", "here"), "here")


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ((DocumentPart(PlainText("Hi"), "here"),), "here: .* documents"),
        ((SearchResultPart("a", "b", (TextPart("Hi"),)),), "messages: .* search results"),
        ((ToolResultPart("toolu_1", (PICTURE,)),), "here: .* images in results of tools"),
        ((ToolResultPart("toolu_1", (DocumentPart(PlainText("Hi"), "here"),)),), "here: .* documents"),
        ((ImagePart(StoredFile("file_1", "here"), "here"),), "here: .* a file of this server"),
        ((ImagePart(UrlFile("u", ""), "here", may_shrink=False),), "here: .* may not be made smaller"),
    ],
)
def test_what_the_form_has_no_words_for_is_refused_by_name(parts: tuple[Part, ...], what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        body_of(*parts)


def test_so_are_top_k_and_first_words() -> None:
    with pytest.raises(InvalidRequest, match="top_k: .* cannot be sent top_k"):
        body_of(TextPart("Hi"), sampling=SamplingParameters(1.0, 1.0, 5))
    turns = (Turn("user", (TextPart("Hi"),)), Turn("assistant", (TextPart("Once"),)))
    with pytest.raises(InvalidRequest, match="a final assistant message"):
        chat_body(asking(conversation=Conversation((), turns)), CONFIG)


def test_a_seed_goes_on_and_a_plain_text_cannot() -> None:
    assert chat_body(asking(seed=7), CONFIG)["seed"] == 7
    assert "seed" not in chat_body(asking(), CONFIG)
    with pytest.raises(InvalidRequest, match="prompt: .* cannot be sent a text without a conversation"):
        chat_body(asking(conversation=plain_text("Once")), CONFIG)


def chunk(*, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m-2", "choices": [choice]}


def called(index: int | None, call_id: str = "", name: str = "", arguments: str = "") -> dict[str, Any]:
    part: dict[str, Any] = {} if index is None else {"index": index}
    if call_id:
        part["id"] = call_id
    return chunk(tool_calls=[part | {"function": {"name": name, "arguments": arguments}}])


TOLD = {
    "id": "chatcmpl-1",
    "choices": [],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 5},
    },
}
END = "[DONE]"


def events_of(*sent: object, stop_sequences: tuple[str, ...] = ()) -> list[ReplyEvent]:
    reader = OpenAiForm().reader(asking(stop_sequences=stop_sequences), CONFIG)
    events = [
        said
        for event in SseReader(1 << 20).feed(sse(*sent))
        if not reader.has_ended
        for said in reader.read(event)
    ]
    return events if reader.has_ended else [*events, *reader.finish()]


def reply_of(*sent: object, stop_sequences: tuple[str, ...] = ()) -> Reply:
    events = events_of(*sent, stop_sequences=stop_sequences)
    check_order(events)
    return fold(events)


@pytest.mark.parametrize("end", [[END], []])
def test_prose(end: list[str]) -> None:
    chunks = [chunk(role="assistant", content=""), chunk(content="He"), chunk(content="llo")]
    reply = reply_of(*chunks, chunk(finish="stop"), TOLD, *end)
    assert (reply.id, reply.model) == ("msg_chatcmpl-1", "m-2")
    assert reply.content == (TextBlock("Hello"),)
    assert (reply.stop_reason, reply.stop_sequence) == ("end_turn", None)
    assert reply.usage == Usage(4, 4, cache_read_tokens=5)


def test_thoughts_and_other_choices_are_passed_over() -> None:
    other = {"index": 1, "delta": {"content": "No"}, "finish_reason": "stop"}
    chunks = [chunk(reasoning_content="Hm"), chunk(content="Yes", reasoning="Hm"), {"choices": [other]}]
    assert reply_of(*chunks, chunk(finish="stop")).text == "Yes"


@pytest.mark.parametrize(
    "parts",
    [
        # as OpenAI and vLLM tell them
        [
            called(0, "call_1", "look"),
            called(0, arguments='{"a":'),
            called(0, arguments=" 1}"),
            called(1, "call_2", "bare"),
            called(1, arguments="{}"),
        ],
        # whole, and every call counted as the first
        [called(0, "call_1", "look", '{"a": 1}'), called(0, "call_2", "bare", "{}")],
        # not counted at all
        [called(None, "call_1", "look", '{"a": 1}'), called(None, "call_2", "bare", "{}")],
        # the name repeated
        [
            called(0, "call_1", "look", '{"a":'),
            called(0, "call_1", "look", " 1}"),
            called(1, "call_2", "bare"),
        ],
    ],
)
@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_calls(parts: list[dict[str, Any]], finish: str) -> None:
    reply = reply_of(chunk(content="Well"), *parts, chunk(finish=finish), TOLD, END)
    assert reply.content == (
        TextBlock("Well"),
        ToolUseBlock("toolu_call_1", "look", {"a": 1}),
        ToolUseBlock("toolu_call_2", "bare", {}),
    )
    assert reply.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("chunks", "reason", "sequence"),
    [
        ([chunk(finish="length")], "max_tokens", None),
        ([chunk(finish="content_filter")], "refusal", None),
        ([chunk(refusal="I cannot."), chunk(finish="stop")], "refusal", None),
        ([chunk(finish="eos")], "end_turn", None),
        ([called(0, "c", "look", "{"), chunk(finish="length")], "max_tokens", None),
    ],
)
def test_how_replies_end(chunks: list[object], reason: str, sequence: str | None) -> None:
    reply = reply_of(chunk(content="x"), *chunks)
    assert (reply.stop_reason, reply.stop_sequence) == (reason, sequence)
    assert reply.usage == Usage(0, 1)  # nothing was said of it


def test_services_that_say_which_stop_sequence_they_met() -> None:
    last = chunk(finish="stop")
    last["choices"][0]["stop_reason"] = "b"
    reply = reply_of(chunk(content="a"), last, stop_sequences=("a", "b"))
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", "b")
    assert reply_of(chunk(content="a"), last).stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("sent", "error", "says"),
    [
        ([], UpstreamFailed, "broke off"),
        ([END], UpstreamFailed, "broke off"),
        ([chunk(content="x")], UpstreamFailed, "broke off"),
        ([chunk(content="x"), END], UpstreamFailed, "broke off"),
        (["null"], UpstreamFailed, "no JSON object"),
        ([called(0, arguments="{}")], UpstreamFailed, "where no call was open"),
        (
            [called(0, "a", "look"), called(1, "b", "bare"), called(0, arguments="{}")],
            UpstreamFailed,
            "went back to a call",
        ),
        ([{"error": {"message": "Sorry", "code": 400}}], InvalidRequest, "Sorry"),
        ([{"error": {"message": "Sorry", "code": 503}}], Overloaded, "Sorry"),
        ([{"error": {"message": "Sorry", "type": "rate_limit_exceeded"}}], RateLimited, "Sorry"),
        ([{"error": f"Oh {KEY}"}], UpstreamFailed, "500"),
    ],
)
def test_streams_that_cannot_be_read(sent: list[object], error: type[HokkuError], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        events_of(*sent)
    assert KEY not in str(raised.value)


PIECES = st.sampled_from(
    [
        chunk(content="\ud83d"),
        chunk(content="\ude00x"),
        chunk(finish="stop"),
        called(0, "call_1", "look", "{"),
        called(1, "call_2", "bare"),
        called(1, arguments="}"),
        TOLD,
    ]
)


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, Any]:
    """A chunk of which one member holds something else."""
    event = json.loads(json.dumps(draw(PIECES)))
    holders: list[dict[str, Any]] = [event]
    for holder in holders:
        inner = [
            each for value in holder.values() for each in (value if isinstance(value, list) else [value])
        ]
        holders += [each for each in inner if isinstance(each, dict)]
    holder = draw(st.sampled_from(holders))
    holder[draw(st.sampled_from(sorted(holder) or ["x"]))] = draw(JSON)
    return event  # type: ignore[no-any-return]


@given(st.lists(PIECES | spoiled()))
def test_whatever_a_service_sends_the_order_of_events_holds(sent: list[dict[str, Any]]) -> None:
    reader = OpenAiForm().reader(asking(), CONFIG)
    events: list[ReplyEvent] = []
    with suppress(HokkuError):
        for each in sent:
            events += reader.read(ServerEvent("message", json.dumps(each)))
        events += reader.finish()
    check_order(events)
    if events and isinstance(events[-1], ReplyEnd):
        fold(events)
