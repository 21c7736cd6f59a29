"""Tools and structured output of the default model through the official Python SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import pydantic
import pytest

from tests.house.server import RealServer

pytestmark = [pytest.mark.clients, pytest.mark.model]

MODEL = "claude-3-5-haiku-latest"
ASK: list[Any] = [{"role": "user", "content": "What is the weather in Rome, in celsius?"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 30},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object", "additionalProperties": False}}


class Answer(pydantic.BaseModel):
    """What the model is asked for."""

    city: str = pydantic.Field(max_length=30)
    warm: bool
    mood: Literal["😀", "😢"]
    notes: list[Literal["sun", "rain"]] = pydantic.Field(max_length=2)


@pytest.fixture
def sdk(real_server: RealServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=real_server.url, api_key=real_server.key, max_retries=0) as sdk:
        yield sdk


def check_call(block: Any) -> None:
    assert block.type == "tool_use"
    assert block.name == "get_weather"
    assert set(block.input) == {"city", "unit"}
    assert block.input["unit"] in ("celsius", "fahrenheit")


def test_a_forced_call(sdk: anthropic.Anthropic) -> None:
    choices: list[Any] = [{"type": "any"}, {"type": "tool", "name": "get_weather"}]
    for choice in choices:
        choice["disable_parallel_tool_use"] = True
        message = sdk.messages.create(
            model=MODEL,
            max_tokens=300,
            messages=ASK,
            tools=[WEATHER],
            tool_choice=choice,
        )
        assert message.stop_reason == "tool_use"
        (block,) = message.content
        check_call(block)


def test_a_streamed_forced_call_and_its_result(sdk: anthropic.Anthropic) -> None:
    choice: Any = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    with sdk.messages.stream(
        model=MODEL, max_tokens=300, messages=ASK, tools=[WEATHER, CLOCK], tool_choice=choice
    ) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "input_json"]
        message = stream.get_final_message()
    (block,) = message.content
    check_call(block)
    assert block.type == "tool_use"
    assert snapshots[-1] == block.input
    result: Any = {"type": "tool_result", "tool_use_id": block.id, "content": "Sunny, 24 degrees."}
    turns: Any = [
        *ASK,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result]},
    ]
    answer = sdk.messages.create(model=MODEL, max_tokens=30, messages=turns, tools=[WEATHER, CLOCK])
    assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")
    counted = sdk.messages.count_tokens(model=MODEL, messages=turns, tools=[WEATHER, CLOCK])
    assert counted.input_tokens == answer.usage.input_tokens


def test_parallel_calls_of_the_model(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(
        model=MODEL,
        max_tokens=600,
        messages=ASK,
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "any"},
        extra_body={"temperature": 1},
    )
    assert all(block.type == "tool_use" for block in message.content)
    if message.stop_reason == "tool_use":
        assert {block.name for block in message.content if block.type == "tool_use"} <= {
            "get_weather",
            "clock",
        }


def test_auto_answers_with_text_or_calls(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(model=MODEL, max_tokens=120, messages=ASK, tools=[WEATHER, CLOCK]) as stream:
        message = stream.get_final_message()
    for block in message.content:
        if block.type == "tool_use" and message.stop_reason == "tool_use":
            assert block.name in ("get_weather", "clock")
        elif block.type == "text":
            assert block.text.strip()


def test_structured_output_is_parsed(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.parse(model=MODEL, max_tokens=400, messages=ASK, output_format=Answer)
    assert isinstance(message.parsed_output, Answer)
    assert message.stop_reason == "end_turn"
    (block,) = message.content
    assert block.type == "text"
    assert json.loads(block.text)["mood"] in "😀😢"


def test_structured_output_is_streamed(sdk: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    with sdk.messages.stream(model=MODEL, max_tokens=60, messages=ASK, output_config=config) as stream:
        text = "".join(stream.text_stream)
    assert isinstance(json.loads(text)["n"], int)


@pytest.mark.parametrize(
    ("city", "place"),
    [
        ({"not": {}}, "properties.city.not: 'not' is not supported"),
        ({"type": "string", "pattern": "(?=a)b"}, "properties.city.pattern: looking around"),
        ({"type": "string", "pattern": "("}, ": Schema is too complex for compilation, or cannot be met"),
        # A regular expression that takes no time to compile, and blows up on the way through it.
        ({"type": "string", "pattern": "(.*a.{1,60}b){8}"}, ": Schema is too complex for compilation"),
    ],
)
def test_a_schema_that_cannot_be_met_is_a_400(
    sdk: anthropic.Anthropic, city: dict[str, Any], place: str
) -> None:
    schema = {**WEATHER["input_schema"], "properties": {"city": city, "unit": {"type": "string"}}}
    tool: Any = {**WEATHER, "input_schema": schema}
    with pytest.raises(anthropic.BadRequestError) as refusal:
        sdk.messages.create(
            model=MODEL, max_tokens=9, messages=ASK, tools=[tool], tool_choice={"type": "any"}
        )
    assert "tools.0.custom.input_schema" in str(refusal.value)
    assert place in str(refusal.value)


def test_a_forced_call_cut_off_before_its_name(sdk: anthropic.Anthropic) -> None:
    for max_tokens in (1, 12):
        message = sdk.messages.create(
            model=MODEL, max_tokens=max_tokens, messages=ASK, tools=[WEATHER], tool_choice={"type": "any"}
        )
        assert (message.content, message.stop_reason) == ([], "max_tokens")
        assert message.usage.output_tokens == max_tokens
