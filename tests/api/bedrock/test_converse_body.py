"""A Converse request becomes the model's own body: every block, mark and parameter where the client has put it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.messages_body import MessagesBody, parse_messages_body
from hokku.api.bedrock.converse_body import AnswerForm, read_converse_body
from hokku.api.bedrock.converse_rules import refuse_as_hosted
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import (
    ContentBlocks,
    DocumentPart,
    ImagePart,
    InlineFile,
    PdfFile,
    PlainText,
    SamplingParameters,
    SearchResultPart,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
    ToolUsePart,
    Turn,
)
from tests.fakes import ALIAS

Json = dict[str, Any]
HELLO: Json = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(body: Json) -> MessagesBody:
    """As Messages reads what Converse makes of it."""
    model_body = {"max_tokens": 10, **read_converse_body(body).model_body, "model": ALIAS}
    return parse_messages_body(model_body, Dialect("2023-06-01", frozenset(), Compatibility.FRIENDLY))


def parts_of(*content: Json) -> tuple[Any, ...]:
    """What a user's message of these blocks becomes."""
    return (
        read({"messages": [{"role": "user", "content": list(content)}]}).request.conversation.turns[0].parts
    )


def document(**fields: Any) -> Json:
    return {"document": {"name": "Sky", **fields}}


def refusal(body: Json) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    error = caught.value
    return f"{error.place}: {error.message}" if error.place else error.message


def refusal_of(block: Json) -> str:
    return refusal({"messages": [{"role": "user", "content": [block]}]})


def test_every_parameter_arrives() -> None:
    body = {
        **HELLO,
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "inferenceConfig": {"maxTokens": 7, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"top_k": 3, "metadata": {"user_id": "me"}},
    }
    request = read(body).request
    assert request.conversation.system == (TextPart("Be brief.", 3600),)
    assert request.conversation.turns == (Turn("user", (TextPart("Hi"),)),)
    assert (request.max_tokens, request.stop_sequences, request.user_id) == (7, ("END",), "me")
    assert request.sampling == SamplingParameters(0.5, 0.25, 3)


def test_what_is_not_said_is_the_models_own() -> None:
    read_body = read_converse_body(HELLO)
    assert read_body.model_body.keys() == {"messages"}
    assert not read_body.says_max_tokens
    assert read_body.form == AnswerForm()
    nulls = {**HELLO, "system": None, "toolConfig": None, "inferenceConfig": {"maxTokens": None}}
    assert read_converse_body(nulls).model_body.keys() == {"messages"}


def test_tools_and_the_choice_among_them() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
    spec = {"name": "weather", "description": "Of a city.", "inputSchema": {"json": schema}, "strict": True}
    plain = {"name": "clock", "inputSchema": {"json": {"type": "object"}}}
    tools = [{"toolSpec": spec}, {"cachePoint": {"type": "default"}}, {"toolSpec": plain}]
    conversation = read({**HELLO, "toolConfig": {"tools": tools}}).request.conversation
    assert conversation.tools == (
        Tool("weather", "Of a city.", schema, is_strict=True, cache_secs=300),
        Tool("clock", "", {"type": "object"}),
    )
    assert conversation.tool_choice == ToolChoice()
    choices: list[tuple[Json, ToolChoice]] = [
        ({"auto": {}}, ToolChoice()),
        ({"any": {}}, ToolChoice("any")),
        ({"tool": {"name": "clock"}}, ToolChoice("tool", "clock")),
    ]
    for choice, chosen in choices:
        config = {"tools": tools, "toolChoice": choice}
        assert read({**HELLO, "toolConfig": config}).request.conversation.tool_choice == chosen


def test_a_call_and_its_result() -> None:
    call = {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Köln"}}
    result = {
        "toolUseId": "tooluse_1",
        "content": [{"json": {"sky": "grün 😀"}}, {"text": "rain"}, {"text": ""}],
        "status": "error",
    }
    turns = [
        *HELLO["messages"],
        {"role": "assistant", "content": [{"text": "Well."}, {"toolUse": call}]},
        {"role": "user", "content": [{"toolResult": result}, {"cachePoint": {"type": "default"}}]},
    ]
    _, assistant, user = read({"messages": turns}).request.conversation.turns
    assert assistant.parts == (TextPart("Well."), ToolUsePart("tooluse_1", "weather", {"city": "Köln"}))
    told = (TextPart('{"sky": "grün 😀"}'), TextPart("rain"))
    assert user.parts == (ToolResultPart("tooluse_1", told, is_error=True, cache_secs=300),)


def test_images_and_what_a_guardrail_would_look_at() -> None:
    image = {"format": "png", "source": {"bytes": base64_of(b"png")}}
    shown, guarded, text = parts_of(
        {"image": image},
        {"guardContent": {"image": image}},
        {"guardContent": {"text": {"text": "Is it?", "qualifiers": ["query"]}}},
    )
    for part in (shown, guarded):
        assert isinstance(part, ImagePart)
        assert isinstance(part.source, InlineFile)
        assert (part.source.media_type, part.source.data) == ("image/png", b"png")
    assert text == TextPart("Is it?")


def test_documents() -> None:
    pdf, csv, page, text, blocks = parts_of(
        document(format="pdf", source={"bytes": base64_of(b"%PDF")}, citations={"enabled": True}),
        document(format="csv", source={"bytes": base64_of("a,ü\n".encode())}, citations={"enabled": True}),
        document(format="html", source={"bytes": base64_of(b"<p>")}, citations={"enabled": True}),
        document(source={"text": "Blue."}, context="Of a child.", citations={"enabled": True}),
        document(source={"content": [{"text": "one"}, {"text": "two"}]}, citations={"enabled": True}),
    )
    for part in (pdf, csv, page, text, blocks):
        assert isinstance(part, DocumentPart)
        assert (part.title, part.is_cited) == ("Sky", True)
    assert isinstance(pdf.body, PdfFile)
    assert isinstance(pdf.body.source, InlineFile)
    assert pdf.body.source.data == b"%PDF"
    assert (csv.body, page.body) == (PlainText("a,ü\n"), PlainText("<p>"))
    assert (text.body, text.context) == (PlainText("Blue."), "Of a child.")
    assert blocks.body == ContentBlocks((TextPart("one"), TextPart("two")))


def test_a_search_result() -> None:
    result = {
        "source": "https://sky",
        "title": "Sky",
        "content": [{"text": "blue"}],
        "citations": {"enabled": True},
    }
    (part,) = parts_of({"searchResult": result})
    assert part == SearchResultPart("https://sky", "Sky", (TextPart("blue"),), is_cited=True)


LOCATIONS: list[Json] = [
    {"documentChar": {"documentIndex": 0, "start": 0, "end": 5}},
    {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
    {"documentChunk": {"documentIndex": 0, "start": 0, "end": 1}},
    {"searchResultLocation": {"searchResultIndex": 0, "start": 0, "end": 1}},
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_cited_reply_sent_back_is_read_as_it_was_written(location: Json) -> None:
    citation = {"title": "Sky", "sourceContent": [{"text": "Blue."}], "location": location}
    cited = {"citationsContent": {"content": [{"text": " It is blue."}], "citations": [citation]}}
    turns = [
        *HELLO["messages"],
        {"role": "assistant", "content": [{"text": "Well."}, cited]},
        {"role": "user", "content": [{"text": "Sure?"}]},
    ]
    parts = read({"messages": turns}).request.conversation.turns[1].parts
    assert parts == (TextPart("Well."), TextPart(" It is blue.", continues=True))


def test_thoughts_of_other_models_are_checked_and_not_shown() -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "x"}}}
    hidden = {"reasoningContent": {"redactedContent": base64_of(b"?")}}
    turns = [*HELLO["messages"], {"role": "assistant", "content": [thought, hidden, {"text": "So"}]}]
    assert read({"messages": turns}).request.conversation.turns[1].parts == (TextPart("So"),)


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    definition = {"schema": json.dumps(schema), "name": "Answer"}
    text_format = {"type": "json_schema", "structure": {"jsonSchema": definition}}
    read_body = read({**HELLO, "outputConfig": {"textFormat": text_format}})
    assert read_body.request.conversation.output_schema == {**schema, "title": "Answer"}


def test_what_the_answer_tells_besides() -> None:
    body = {
        **HELLO,
        "additionalModelResponseFieldPaths": ["/stop_sequence", "/a~1b/~0"],
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "flex"},
        "requestMetadata": {"team": "a b"},
        "promptVariables": {"x": {"text": "y"}},
        "guardrailConfig": {"trace": "enabled"},
    }
    assert read_converse_body(body).form == AnswerForm(("/stop_sequence", "/a~1b/~0"), "optimized", "flex")


MEMBER = "1 validation error detected: Value"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"messages": None}, f"{MEMBER} at 'messages' failed to satisfy constraint: Member must not be null"),
        (
            {"messages": [{"role": "robot", "content": []}]},
            f"{MEMBER} 'robot' at 'messages.1.member.role' failed to satisfy constraint: Member must satisfy enum "
            "value set: [user, assistant, system]",
        ),
        (
            {"inferenceConfig": {"temperature": 2}},
            f"{MEMBER} '2' at 'inferenceConfig.temperature' failed to satisfy constraint: Member must have value less "
            "than or equal to 1",
        ),
        (
            {"inferenceConfig": {"maxTokens": 0}},
            f"{MEMBER} '0' at 'inferenceConfig.maxTokens' failed to satisfy constraint: Member must have value "
            "greater than or equal to 1",
        ),
        ({"inferenceConfig": {"maxTokens": True}}, "Member must be an integer"),
        ({"inferenceConfig": {"topK": 4}}, "#/inferenceConfig: extraneous key [topK] is not permitted"),
        ({"model": "x"}, "Malformed input request: #: extraneous key [model] is not permitted"),
        ({"system": "Be brief."}, "'system' failed to satisfy constraint: Member must be a list"),
        (
            {"additionalModelRequestFields": {"messages": []}},
            "The additional field messages conflicts with an existing field.",
        ),
        ({"additionalModelRequestFields": {"stream": True}}, "#: extraneous key [stream] is not permitted"),
        ({"additionalModelRequestFields": {"voice": 1}}, "voice: Extra inputs are not permitted"),
        ({"additionalModelResponseFieldPaths": ["stop"]}, "'stop' is not a JSON pointer"),
        ({"additionalModelResponseFieldPaths": [""]}, "length greater than or equal to 1"),
        ({"requestMetadata": {}}, "Member must have length from 1 to 16"),
        (
            {"guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "1"}},
            "The guardrail identifier or version provided in the request does not exist.",
        ),
        ({"toolConfig": {"tools": []}}, "Member must have length greater than or equal to 1"),
        (
            {"toolConfig": {"tools": [{"systemTool": {"name": "search"}}]}},
            "toolConfig.tools.0.systemTool: this release of Hokku does not serve tools on the server's side",
        ),
        (
            {"toolConfig": {"tools": [{"cachePoint": {"type": "default"}}]}},
            "toolConfig.tools.0.cachePoint: nothing stands before it that could be cached",
        ),
        ({"outputConfig": {"effort": "silly"}}, "output_config.effort"),
    ],
)
def test_bad_members_are_refused_by_name(change: Json, sentence: str) -> None:
    assert sentence in refusal({**HELLO, **change})


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ({}, "Member must have exactly one of the members [text, image, "),
        ({"text": "Hi", "cachePoint": {"type": "default"}}, "Member must have exactly one of the members"),
        ({"sound": {}}, "#/messages/0/content/0: extraneous key [sound] is not permitted"),
        ({"video": {}}, "messages.0.content.0.video: this release of Hokku does not serve videos"),
        ({"audio": {}}, "messages.0.content.0.audio: this release of Hokku does not serve sound"),
        ({"cachePoint": {"type": "default"}}, "nothing stands before it that could be cached"),
        ({"cachePoint": {"type": "soft"}}, "Member must satisfy enum value set: [default]"),
        (
            {"image": {"format": "bmp", "source": {"bytes": "AAAA"}}},
            "'messages.1.member.content.1.member.image.format' failed to satisfy constraint: Member must satisfy enum",
        ),
        (
            {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://a/b"}}}},
            "messages.0.content.0.image.source.s3Location: this release of Hokku does not serve files by their place",
        ),
        ({"image": {"format": "png", "source": {"bytes": "?"}}}, "invalid base64 data"),
        (document(format="docx", source={"bytes": "AAAA"}), "does not serve documents of the format docx"),
        (document(format="txt", source={"bytes": "/w=="}), "the file is not text in UTF-8"),
        (document(format="txt", source={"bytes": "?"}), "invalid base64 data"),
        (document(source={"bytes": "AAAA"}), "content.1.member.document.format' failed"),
        (document(format="pdf", source={"text": "Blue."}), "a document of the format pdf comes as bytes"),
        (
            {"toolUse": {"toolUseId": "a b", "name": "x", "input": {}}},
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.:-]+",
        ),
        ({"toolUse": {"toolUseId": "a", "name": "x" * 65, "input": {}}}, "length less than or equal to 64"),
        (
            {"toolResult": {"toolUseId": "a", "content": [], "type": "web_search"}},
            "toolResult.type: this release of Hokku does not serve tools on the server's side",
        ),
    ],
)
def test_bad_blocks_are_refused_by_name(block: Json, sentence: str) -> None:
    assert sentence in refusal_of(block)


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        (
            [{"role": "assistant", "content": [{"text": "Hi"}]}],
            "A conversation must start with a user message.",
        ),
        (
            [{"role": "user", "content": []}],
            "The content field in the Message object at messages.0 is empty.",
        ),
        (
            [*HELLO["messages"], {"role": "assistant", "content": [{"text": " "}]}],
            "The text field in the ContentBlock object at messages.1.content.0 is blank.",
        ),
        (
            [{"role": "user", "content": [{"text": "?"}, document(name="a  b", source={"text": "x"})]}],
            "The document file name can only contain alphanumeric characters",
        ),
        (
            [{"role": "user", "content": [document(source={"text": "x"})]}],
            "messages.0.content: a document needs a text block beside it",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"toolResult": {"toolUseId": "a", "content": [], "status": "error"}}],
                }
            ],
            "The content field at messages.0.content.0.toolResult cannot be empty when status value is error.",
        ),
        (
            [{"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "x"}]}}]}],
            "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        ),
    ],
)
def test_the_hosted_layer_refuses_more(messages: list[Json], sentence: str) -> None:
    body = {"messages": messages}
    read_converse_body(body)
    with pytest.raises(InvalidRequest) as caught:
        refuse_as_hosted(body)
    assert sentence in str(caught.value)


def test_the_hosted_layer_takes_what_is_good() -> None:
    content = [document(name="Sky (1) [a-b]", source={"text": "x"}), {"text": "Hi"}]
    refuse_as_hosted({"messages": [{"role": "user", "content": content}]})
