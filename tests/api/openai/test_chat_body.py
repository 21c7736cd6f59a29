"""What a body of `/v1/chat/completions` means, and what is refused of it, by name."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hokku.api.config import Compatibility
from hokku.api.openai.chat_body import ChatBody, parse_chat_body
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import (
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    PdfFile,
    SamplingParameters,
    StoredFile,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
    ToolUsePart,
    Turn,
    UrlFile,
)
from tests.fakes import fake_manifest

FRIENDLY, HOSTED = Compatibility.FRIENDLY, Compatibility.HOSTED
USER: dict[str, Any] = {"role": "user", "content": "Hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
FUNCTION = {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "warm"}
PIXELS = base64.b64encode(b"pixels").decode()


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [USER], **fields}


def parsed(*messages: dict[str, Any], compatibility: Compatibility = FRIENDLY, **fields: Any) -> ChatBody:
    return parse_chat_body(body(*messages, **fields), compatibility)


def said(*messages: dict[str, Any], compatibility: Compatibility = FRIENDLY) -> Conversation:
    return parsed(*messages, compatibility=compatibility).request.conversation


def user_turn(*parts: Any) -> Turn:
    return Turn("user", parts or (TextPart("Hi"),))


def test_a_body_of_everything() -> None:
    checked = parsed(
        {"role": "system", "content": "Be brief."},
        USER,
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Well."},
        tools=[TOOL],
        tool_choice="auto",
        parallel_tool_calls=False,
        max_completion_tokens=7,
        temperature=1.5,
        top_p=0.5,
        stop=["\n", "x"],
        seed=-3,
        user="u",
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
    )
    request = checked.request_to(fake_manifest())
    assert request.conversation == Conversation(
        (TextPart("Be brief.\nBe kind."),),
        (user_turn(), Turn("assistant", (TextPart("Yes?"),)), user_turn(TextPart("Well."))),
        (Tool("weather", "Tells it.", PARAMETERS),),
        ToolChoice("auto", is_parallel=False),
    )
    assert (request.max_tokens, request.window_overrun_allowed) == (7, False)
    assert request.sampling == SamplingParameters(1.5, 0.5)
    assert (request.stop_sequences, request.seed, request.user_id) == (("\n", "x"), -3, "u")
    assert (checked.delivery.stream, checked.delivery.include_usage) == (True, True)


def test_a_body_of_little() -> None:
    checked = parsed()
    request = checked.request_to(fake_manifest())
    assert request.conversation == Conversation((), (user_turn(),))
    assert (request.max_tokens, request.window_overrun_allowed) == (8192, True)
    assert (request.sampling, request.seed, request.user_id) == (None, None, None)
    assert not checked.delivery.stream


@pytest.mark.parametrize("name", ["temperature", "top_p", "stop", "seed", "n", "tools", "stream", "user"])
def test_null_is_absent(name: str) -> None:
    fields: dict[str, Any] = {name: None}
    assert parsed(**fields) == parsed()


def test_neighbours_of_one_side_are_one_turn() -> None:
    conversation = said(
        USER, USER, {"role": "assistant", "content": "A"}, {"role": "assistant", "content": "B"}
    )
    assert conversation.turns == (
        user_turn(TextPart("Hi"), TextPart("Hi")),
        Turn("assistant", (TextPart("A"), TextPart("B"))),
    )


def test_calls_and_results() -> None:
    second = {**CALL, "id": "call_2", "function": {"name": "clock", "arguments": ""}}
    conversation = said(
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL, second]},
        {
            "role": "tool",
            "tool_call_id": "call_2",
            "content": [{"type": "text", "text": "noon"}],
            "name": "clock",
        },
        RESULT,
        USER,
    )
    assert conversation.turns == (
        user_turn(),
        Turn(
            "assistant",
            (
                TextPart("I look."),
                ToolUsePart("call_1", "weather", {"city": "Ulm"}),
                ToolUsePart("call_2", "clock", {}),
            ),
        ),
        user_turn(
            ToolResultPart("call_2", (TextPart("noon"),)),
            ToolResultPart("call_1", (TextPart("warm"),)),
            TextPart("Hi"),
        ),
    )


def test_calls_and_results_of_the_older_form() -> None:
    conversation = said(
        USER,
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "weather", "content": "warm"},
        {"role": "assistant", "content": "", "function_call": CALL["function"]},
        {"role": "function", "name": "weather", "content": None},
    )
    calls = [part for turn in conversation.turns for part in turn.parts if isinstance(part, ToolUsePart)]
    results = [part for turn in conversation.turns for part in turn.parts if isinstance(part, ToolResultPart)]
    assert [call.id for call in calls] == [result.tool_use_id for result in results]
    assert len({call.id for call in calls}) == 2
    assert [result.parts for result in results] == [(TextPart("warm"),), ()]


def test_replies_may_be_sent_back_as_they_came() -> None:
    replayed: dict[str, Any] = {
        "role": "assistant",
        "content": "{}",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "parsed": {"a": 1},
        "provider_specific_fields": {"refusal": None},
    }
    assert said(USER, replayed, USER).turns[1] == Turn("assistant", (TextPart("{}"),))
    streamed = {**CALLED, "tool_calls": [{**CALL, "index": 0}]}
    assert said(USER, streamed, RESULT) == said(USER, CALLED, RESULT)
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    assert said(USER, refused, USER).turns[1] == Turn("assistant", (TextPart("No."),))
    assert said(USER, refused, USER, compatibility=HOSTED).turns[1] == Turn("assistant", ())


def test_first_words_of_the_reply() -> None:
    assert said(USER, {"role": "assistant", "content": "It is"}).turns[-1].parts == (TextPart("It is"),)
    assert said(USER, {"role": "assistant", "content": ""}).turns == (user_turn(),)


@pytest.mark.parametrize(
    ("part", "meant"),
    [
        ({"type": "text", "text": "Look"}, TextPart("Look")),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}", "detail": "low"}},
            ImagePart(
                InlineFile("image/png", b"pixels", "messages[0].content[0].image_url.url"),
                "messages[0].content[0]",
            ),
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PIXELS}"}},
            ImagePart(
                InlineFile("image/jpeg", b"pixels", "messages[0].content[0].image_url.url"),
                "messages[0].content[0]",
            ),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ImagePart(
                UrlFile("https://x.example/a.png", "messages[0].content[0].image_url.url"),
                "messages[0].content[0]",
            ),
        ),
        (
            {
                "type": "file",
                "file": {"file_data": f"data:application/pdf;base64,{PIXELS}", "filename": "a.pdf"},
            },
            DocumentPart(
                PdfFile(InlineFile("application/pdf", b"pixels", "messages[0].content[0].file.file_data")),
                "messages[0].content[0]",
                "a.pdf",
            ),
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            DocumentPart(
                PdfFile(StoredFile("file_1", "messages[0].content[0].file")), "messages[0].content[0]"
            ),
        ),
    ],
)
def test_parts(part: dict[str, Any], meant: Any) -> None:
    assert said({"role": "user", "content": [part]}).turns == (user_turn(meant),)


@pytest.mark.parametrize(
    ("fields", "tools", "choice"),
    [
        ({"tools": [TOOL]}, ("weather",), ToolChoice()),
        ({"tools": [TOOL], "tool_choice": "none"}, ("weather",), ToolChoice("none")),
        ({"tools": [TOOL], "tool_choice": "required"}, ("weather",), ToolChoice("any")),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            ("weather",),
            ToolChoice("tool", "weather"),
        ),
        (
            {"functions": [FUNCTION], "function_call": {"name": "weather"}},
            ("weather",),
            ToolChoice("tool", "weather", is_parallel=False),
        ),
        ({"functions": [FUNCTION]}, ("weather",), ToolChoice(is_parallel=False)),
        ({"tool_choice": "auto", "tools": []}, (), ToolChoice()),
    ],
)
def test_tools(fields: dict[str, Any], tools: tuple[str, ...], choice: ToolChoice) -> None:
    conversation = parsed(**fields).request.conversation
    assert tuple(tool.name for tool in conversation.tools) == tools
    assert conversation.tool_choice == choice
    assert parsed(**fields).uses_functions == ("functions" in fields)


def test_a_function_without_parameters_takes_none() -> None:
    bare = {"type": "function", "function": {"name": "clock", "strict": True, "parameters": {}}}
    (tool,) = parsed(tools=[bare]).request.conversation.tools
    assert tool.is_strict
    assert tool.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": PARAMETERS}},
            PARAMETERS,
        ),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "a", "description": "b", "schema": {"type": "object"}},
            },
            {"type": "object"},
        ),
    ],
)
def test_formats_of_the_answer(answer: Any, schema: Any) -> None:
    assert parsed(response_format=answer).request.conversation.output_schema == schema
    assert parsed(response_format=answer, compatibility=HOSTED).request.conversation.output_schema is None


def test_what_the_vendor_s_layer_ignores_is_ignored_there() -> None:
    ignored: dict[str, Any] = {
        "logprobs": True,
        "top_logprobs": 4,
        "metadata": 1,
        "response_format": {"type": "yaml"},
        "prediction": "x",
        "presence_penalty": 2,
        "frequency_penalty": 2,
        "seed": "x",
        "service_tier": "flex",
        "audio": {},
        "modalities": ["audio"],
        "logit_bias": {"1": 2},
        "store": True,
        "user": 7,
        "reasoning_effort": "high",
    }
    assert parsed(compatibility=HOSTED, **ignored) == parsed(compatibility=HOSTED)
    named = {**USER, "name": "Ada"}
    heard = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    parts = {"role": "user", "content": [{"type": "text", "text": "Hi"}, heard, {"type": "file", "file": {}}]}
    for message in (named, parts):
        assert said(message, compatibility=HOSTED) == said(USER)
    strict = {"type": "function", "function": {**FUNCTION, "strict": True, "parameters": {"type": "object"}}}
    (tool,) = parsed(compatibility=HOSTED, tools=[strict]).request.conversation.tools
    assert not tool.is_strict


def test_sampling_where_hosted() -> None:
    hosted = parsed(compatibility=HOSTED, temperature=1.7, stop=[" ", "x"]).request
    assert hosted.sampling == SamplingParameters(1.0)
    assert hosted.stop_sequences == ("x",)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "store": False},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "modalities": ["text"], "service_tier": "auto"},
        {"metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k"},
        {"reasoning_effort": "none", "verbosity": "medium", "prompt_cache_retention": "in_memory"},
        {"thinking": {"type": "disabled"}},
    ],
)
def test_what_asks_for_nothing_is_accepted(fields: dict[str, Any]) -> None:
    assert parsed(**fields) == parsed()


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logit_bias": {"1": -100}}, "logit_bias"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": False}, "frequency_penalty"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"store": True}, "store"),
        ({"verbosity": "low"}, "verbosity"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"prompt_cache_options": {"mode": "explicit"}}, "prompt_cache_options"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
        ({"bogus": 1}, "bogus"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"metadata": 1}, "metadata"),
        ({"prediction": 1}, "prediction"),
        ({"prompt_cache_key": 1}, "prompt_cache_key"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"stop": [7]}, "stop[0]"),
        ({"seed": 1.5}, "seed"),
        ({"user": "x" * 257}, "user"),
        ({"safety_identifier": 7}, "safety_identifier"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "7"}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
            "tools[0].function.parameters.type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "object", "anyOf": []}}}]},
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "a", "strict": True, "parameters": {"type": "object"}}}
                ]
            },
            "tools[0].function.parameters",
        ),
        ({"functions": [FUNCTION], "tools": [TOOL]}, "functions"),
        (
            {"functions": [{"name": "a", "parameters": {"type": "object", "properties": 7}}]},
            "functions[0].parameters.properties",
        ),
        ({"functions": [FUNCTION], "function_call": "required"}, "function_call"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}},
                }
            },
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "x"}}}},
            "response_format.json_schema.schema.type",
        ),
    ],
)  # fmt: skip
def test_fields_are_refused_by_name(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(**fields)
    assert refusal.value.place == place


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([7], "messages[0]"),
        ([{"content": "Hi"}], "messages[0].role"),
        ([{"role": "robot", "content": "Hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "Hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": " "}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{**USER, "name": "Ada"}], "messages[0].name"),
        ([{**USER, "bogus": 1}], "messages[0].bogus"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "video"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "file", "file": {}}]}], "messages[0].content[0].file"),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "file", "file": {"file_data": "data:text/html;base64,QQ=="}}],
                }
            ],
            "messages[0].content[0].file.file_data",
        ),
        *(
            (
                [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}],
                "messages[0].content[0].image_url.url",
            )
            for url in (
                "ftp://x",
                "data:image/png,raw",
                "data:image/tiff;base64,QQ==",
                "data:image/png;base64,",
                "data:image/png;base64,Q Q=",
                "data:image/png;base64," + "A" * 10_485_761,
            )
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://x", "detail": "x"}}],
                }
            ],
            "messages[0].content[0].image_url.detail",
        ),
        ([{"role": "system", "content": "Hi"}], "messages"),
        ([{"role": "system", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
        ([{"role": "assistant", "content": "Hi"}, USER], "messages[0].role"),
        ([USER, {"role": "assistant"}], "messages[1].content"),
        ([USER, {"role": "assistant", "content": None}], "messages[1].content"),
        ([USER, {"role": "assistant", "content": "Hi "}], "messages[1]"),
        ([USER, {"role": "assistant", "content": " "}, USER], "messages[1].content"),
        ([USER, {"role": "assistant", "content": "a", "audio": {"id": "x"}}], "messages[1].audio"),
        ([USER, {"role": "assistant", "content": "a", "annotations": [1]}], "messages[1].annotations"),
        ([USER, CALLED], "messages[1]"),
        ([USER, CALLED, USER], "messages[1]"),
        ([USER, CALLED, {"role": "assistant", "content": "a"}], "messages[1]"),
        ([USER, RESULT], "messages[1].tool_call_id"),
        ([USER, CALLED, RESULT, RESULT], "messages[3].tool_call_id"),
        ([USER, CALLED, {**RESULT, "tool_call_id": 7}], "messages[2].tool_call_id"),
        ([USER, CALLED, {**RESULT, "name": "clock"}], "messages[2].name"),
        ([USER, CALLED, {"role": "function", "name": "clock", "content": "a"}], "messages[2].name"),
        ([USER, {**CALLED, "tool_calls": [CALL, CALL]}], "messages[1].tool_calls[1].function"),
        ([USER, {**CALLED, "function_call": CALL["function"]}], "messages[1].function_call"),
        ([USER, {**CALLED, "tool_calls": [{**CALL, "type": "custom"}]}], "messages[1].tool_calls[0].type"),
        *(
            (
                [USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "a", "arguments": text}}]}],
                "messages[1].tool_calls[0].function.arguments",
            )
            for text in ("[]", "{", "NaN", '{"a": "\\ud800"}', "[" * 100_000, '{"a":' * 101 + "1" + "}" * 101)
        ),
    ],
)
def test_messages_are_refused_by_name(messages: list[Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_chat_body({"model": "m", "messages": messages}, FRIENDLY)
    assert refusal.value.place == place


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_first_words_go_with_neither_a_forced_call_nor_a_format(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(USER, {"role": "assistant", "content": "It is"}, **fields)
    assert refusal.value.place == place
