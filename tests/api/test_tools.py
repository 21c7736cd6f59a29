"""Tools over the wire, with a scripted model: what it is shown, and what becomes of its calls."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Compatibility
from hokku.chat.formats.hermes import HERMES
from hokku.protocol.messages import ToolUsePart
from tests.api.conftest import client_of, services_of
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, says

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
BODY: dict[str, Any] = {
    "model": ALIAS,
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [WEATHER, CLOCK],
}
SYNTAX = HERMES.syntax


def spelled(*calls: tuple[str, dict[str, Any]]) -> str:
    return SYNTAX.spell([ToolUsePart("", name, arguments) for name, arguments in calls])


async def ask(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    response = await client.post("/v1/messages", json=BODY | changes)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()
    return message


async def frames(client: httpx.AsyncClient, **changes: Any) -> list[dict[str, Any]]:
    response = await client.post("/v1/messages", json=BODY | {"stream": True} | changes)
    assert response.status_code == 200, response.text
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


async def test_a_call(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says("I look.\n" + spelled(("get_weather", {"city": "Köln"})))
    message = await ask(client)
    assert message["stop_reason"] == "tool_use"
    text, call = message["content"]
    assert text == {"type": "text", "text": "I look."}
    assert call.pop("id").startswith("toolu_01")
    assert call == {
        "type": "tool_use",
        "name": "get_weather",
        "input": {"city": "Köln"},
        "caller": {"type": "direct"},
    }


async def test_parallel_calls(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(spelled(("get_weather", {"city": "Rom"}), ("clock", {}), ("clock", {"zone": [1]})))
    message = await ask(client)
    assert [(block["name"], block["input"]) for block in message["content"]] == [
        ("get_weather", {"city": "Rom"}),
        ("clock", {}),
        ("clock", {"zone": [1]}),
    ]
    assert len({block["id"] for block in message["content"]}) == 3


async def test_a_streamed_call(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says("So.\n" + spelled(("clock", {}), ("get_weather", {"city": 'a "b" \\ 世界'})))
    engine.step_secs = 0.002
    events = [event for event in await frames(client) if event["type"] != "ping"]
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [(event["index"], event["content_block"]["type"]) for event in starts] == [
        (0, "text"),
        (1, "tool_use"),
        (2, "tool_use"),
    ]
    assert starts[1]["content_block"]["input"] == {}
    pieces = [event for event in events if event["type"] == "content_block_delta" and event["index"] == 2]
    assert {piece["delta"]["type"] for piece in pieces} == {"input_json_delta"}
    assert len(pieces) > 3
    assert json.loads("".join(piece["delta"]["partial_json"] for piece in pieces)) == {
        "city": 'a "b" \\ 世界'
    }
    order = [int(event["index"]) for event in events[1:-2]]
    assert order == sorted(order)
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ('{"city": "Rom", "days": [1, 2], "unit": "cel', {"city": "Rom", "days": [1, 2]}),
        ('{"city": "Rom", "days": [1,', {"city": "Rom"}),
        ('{"city": "Rom", "days": 1', {"city": "Rom"}),
        ('{"city', {}),
        ("", {}),
    ],
)
async def test_a_call_cut_short(
    client: httpx.AsyncClient, engine: FakeEngine, kept: str, expected: dict[str, Any]
) -> None:
    said = SYNTAX.head("get_weather") + kept
    engine.script = lambda _request: Script(list(said.encode()) + [65] * 500)
    length = len(said.encode())
    message = await ask(client, max_tokens=length)
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", length)
    (call,) = message["content"]
    assert (call["name"], call["input"]) == ("get_weather", expected)
    events = await frames(client, max_tokens=length)
    assert "".join(e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta") == kept
    assert [event["type"] for event in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]


async def test_a_call_cut_off_before_its_name(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    said = SYNTAX.head("get_weather")[:-8]
    engine.script = lambda _request: Script(list(said.encode()) + [65] * 500)
    message = await ask(client, max_tokens=len(said))
    assert (message["stop_reason"], message["content"]) == ("max_tokens", [])


async def test_what_looks_like_a_call_of_no_tool_is_text(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    said = spelled(("get_whether", {}))
    engine.script = says(said)
    message = await ask(client)
    assert (message["stop_reason"], message["content"]) == ("end_turn", [{"type": "text", "text": said}])


async def test_without_tools_nothing_is_a_call(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    said = spelled(("clock", {}))
    engine.script = says(said)
    ways: list[dict[str, Any]] = [{"tools": []}, {"tool_choice": {"type": "none"}}]
    for changes in ways:
        message = await ask(client, **changes)
        assert message["content"] == [{"type": "text", "text": said}]
        assert b"get_weather" not in bytes(engine.requests[-1].prompt)


async def test_the_model_is_shown_tools_calls_and_results(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    turns = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rom"}},
                {"type": "tool_use", "id": "b", "name": "gone", "input": {}, "caller": {"type": "direct"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "b", "is_error": True, "content": "No."}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "Sun", "cache_control": {"type": "ephemeral"}}],
                },
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    await ask(client, messages=turns, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    shown = bytes(engine.requests[-1].prompt).decode()
    for piece in (
        "The weather of a city.",
        '"name": "clock"',
        "I look. " + spelled(("get_weather", {"city": "Rom"}))[:9],
    ):
        assert piece in shown
    assert shown.endswith(
        "user: <tool_response>\nError: No.\n</tool_response> <tool_response>\nSun\n</tool_response> And?\n"
    )


@pytest.mark.parametrize("content", [{}, {"content": ""}, {"content": []}, {"is_error": None}])
async def test_a_result_may_be_empty(client: httpx.AsyncClient, content: dict[str, Any]) -> None:
    call = {"type": "tool_use", "id": "a", "name": "clock", "input": {}}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", **content}]},
    ]
    assert (await ask(client, messages=turns))["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    "fields",
    [
        {
            "type": "custom",
            "strict": False,
            "eager_input_streaming": True,
            "cache_control": {"type": "ephemeral"},
        },
        {"type": None, "strict": None, "cache_control": None, "eager_input_streaming": None},
        {"input_examples": [], "defer_loading": False, "allowed_callers": ["direct"]},
        {"input_schema": {"type": "object", "properties": None, "required": None, "if": {}, "$schema": "x"}},
        {"name": "x" * 128},
    ],
)
async def test_tools_that_pass(client: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    await ask(client, tools=[WEATHER, CLOCK | fields])


async def test_count_tokens_counts_tools(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    body = {name: BODY[name] for name in ("model", "messages", "tools")}
    counted = (await client.post("/v1/messages/count_tokens", json=body)).json()["input_tokens"]
    assert counted == (await ask(client))["usage"]["input_tokens"]
    del body["tools"]
    assert (await client.post("/v1/messages/count_tokens", json=body)).json()["input_tokens"] < counted - 100


async def test_the_hosted_service_has_no_structured_output(engine: FakeEngine) -> None:
    schema = {"type": "object", "additionalProperties": False}
    asked: list[tuple[dict[str, Any], str]] = [
        (
            {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
            "does not support output format.",
        ),
        ({"tools": [CLOCK | {"strict": True, "input_schema": schema}]}, "does not support strict tools."),
    ]
    async with client_of(services_of(engine), ApiConfig(Compatibility.HOSTED)) as client:
        for changes, sentence in asked:
            response = await client.post("/v1/messages", json=BODY | changes)
            assert response.json()["error"]["message"] == f"'{MODEL_ID}' {sentence}"
        model = (await client.get(f"/v1/models/{MODEL_ID}")).json()
        assert model["capabilities"]["structured_outputs"] == {"supported": False}
