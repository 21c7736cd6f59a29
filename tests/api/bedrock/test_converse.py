"""Converse and ConverseStream over the fake engine, and what CountTokens makes of such a body."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from hokku.api.config import ApiConfig, Compatibility
from hokku.chat.formats.plain import PLAIN
from hokku.protocol.errors import EngineFailed, Overloaded
from hokku.protocol.messages import ToolUsePart
from tests.api.bedrock.conftest import PROFILE, Bedrock, frames
from tests.api.bedrock.service_model import requests_of
from tests.api.bedrock.test_invoke import is_refused
from tests.api.conftest import client_of
from tests.fakes import ALIAS, FakeEngine, Script, says

Json = dict[str, Any]
CONVERSE, STREAM = f"/model/{PROFILE}/converse", f"/model/{PROFILE}/converse-stream"
COUNT = f"/model/{PROFILE}/count-tokens"
HOSTED = ApiConfig(Compatibility.HOSTED)
BODY: Json = {
    "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
    "inferenceConfig": {"maxTokens": 20},
}
TOOLS: Json = {"tools": [{"toolSpec": {"name": "clock", "inputSchema": {"json": {"type": "object"}}}}]}


def events_of(response: httpx.Response) -> list[tuple[str, Any]]:
    """Names and payloads of a stream that is all events."""
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    return [(headers[":event-type"], payload) for headers, payload in frames(response.content)]


async def test_a_whole_reply(client: httpx.AsyncClient) -> None:
    response = await client.post(CONVERSE, json=BODY)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert len(response.headers["x-amzn-requestid"]) == 36
    told = response.json()
    assert told.pop("metrics")["latencyMs"] >= 0
    assert told == {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello, world!"}]}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": len(b"user: Hi\n"),
            "outputTokens": 14,
            "totalTokens": 23,
            "cacheReadInputTokens": 0,
            "cacheWriteInputTokens": 0,
            "cacheDetails": [],
        },
    }


async def test_a_streamed_reply(client: httpx.AsyncClient) -> None:
    whole = (await client.post(CONVERSE, json=BODY)).json()
    told = events_of(await client.post(STREAM, json=BODY))
    names = [name for name, _ in told]
    assert names[:2] == ["messageStart", "contentBlockDelta"]
    assert names[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    text = "".join(payload["delta"]["text"] for name, payload in told if name == "contentBlockDelta")
    assert text == "Hello, world!"
    assert told[-1][1]["usage"] == whole["usage"]


async def test_the_same_as_on_the_vendor_s_own_wire(
    bedrock: Bedrock, engine: FakeEngine, client: httpx.AsyncClient
) -> None:
    engine.script = lambda _request: Script([*b"Well. ", *call_of("clock", {"zone": "Köln"}), 256])
    body = {**BODY, "system": [{"text": "Be brief."}], "toolConfig": TOOLS}
    told = (await client.post(CONVERSE, json=body)).json()
    own_body = {
        "model": ALIAS,
        "max_tokens": 20,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": "clock", "input_schema": {"type": "object"}}],
    }
    async with client_of(bedrock.services) as own:
        message = (await own.post("/v1/messages", json=own_body)).json()
    assert engine.requests[0].prompt == engine.requests[1].prompt
    assert engine.requests[0].sampling == engine.requests[1].sampling
    assert told["usage"]["inputTokens"] == message["usage"]["input_tokens"]
    assert told["usage"]["outputTokens"] == message["usage"]["output_tokens"]


def call_of(name: str, arguments: Json) -> bytes:
    """A call as the scripted model writes it."""
    return PLAIN.syntax.spell([ToolUsePart("", name, arguments)]).encode()


@pytest.mark.parametrize("path", [CONVERSE, STREAM])
async def test_a_call_and_its_result(client: httpx.AsyncClient, engine: FakeEngine, path: str) -> None:
    engine.script = lambda _request: Script([*call_of("clock", {"zone": 'K "ö"'}), 256])
    response = await client.post(path, json={**BODY, "toolConfig": TOOLS, "inferenceConfig": {}})
    if path == CONVERSE:
        told = response.json()
        (block,) = told["output"]["message"]["content"]
        assert told["stopReason"] == "tool_use"
        called, arguments = block["toolUse"], block["toolUse"]["input"]
    else:
        events = events_of(response)
        (called,) = [payload["start"]["toolUse"] for name, payload in events if name == "contentBlockStart"]
        pieces = [payload["delta"] for name, payload in events if name == "contentBlockDelta"]
        arguments = json.loads("".join(piece["toolUse"]["input"] for piece in pieces))
        assert ("messageStop", {"stopReason": "tool_use"}) in events
    assert called["name"] == "clock"
    assert called["toolUseId"].startswith("toolu_bdrk_")
    assert arguments == {"zone": 'K "ö"'}
    engine.script = says("It is late.")
    call = {"toolUseId": called["toolUseId"], "name": "clock", "input": arguments}
    result = {"toolUseId": called["toolUseId"], "content": [{"json": {"hour": 23}}]}
    turns = [
        *BODY["messages"],
        {"role": "assistant", "content": [{"toolUse": call}]},
        {"role": "user", "content": [{"toolResult": result}]},
    ]
    answer = await client.post(CONVERSE, json={**BODY, "messages": turns, "toolConfig": TOOLS})
    assert answer.json()["output"]["message"]["content"] == [{"text": "It is late."}]
    assert b'{"hour": 23}' in bytes(engine.requests[-1].prompt)


async def test_without_a_limit_it_is_the_model_s_own(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([*b"a"] * 5_000)
    body = {"messages": BODY["messages"]}
    told = (await client.post(CONVERSE, json=body)).json()
    assert told["stopReason"] == "model_context_window_exceeded"
    assert engine.requests[0].max_new_tokens > 20
    told = (await client.post(CONVERSE, json=BODY)).json()
    assert (told["stopReason"], told["usage"]["outputTokens"]) == ("max_tokens", 20)
    by_its_own_name = {**body, "additionalModelRequestFields": {"max_tokens": 7}}
    told = (await client.post(CONVERSE, json=by_its_own_name)).json()
    assert (told["stopReason"], told["usage"]["outputTokens"]) == ("max_tokens", 7)


@pytest.mark.parametrize("path", [CONVERSE, STREAM])
async def test_what_is_told_besides(client: httpx.AsyncClient, path: str) -> None:
    body = {
        **BODY,
        "inferenceConfig": {"stopSequences": [","]},
        "additionalModelResponseFieldPaths": ["/stop_sequence", "/model_voice"],
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "flex"},
    }
    response = await client.post(path, json=body)
    if path == CONVERSE:
        stop = metadata = response.json()
    else:
        *_, (_, stop), (_, metadata) = events_of(response)
    assert stop["stopReason"] == "stop_sequence"
    assert stop["additionalModelResponseFields"] == {"stop_sequence": ","}
    assert metadata["performanceConfig"] == {"latency": "optimized"}
    assert metadata["serviceTier"] == {"type": "flex"}


async def test_cache_points(client: httpx.AsyncClient) -> None:
    point = {"cachePoint": {"type": "default"}}
    body = {**BODY, "system": [{"text": "Be brief. " * 10}, point]}
    usages = [(await client.post(CONVERSE, json=body)).json()["usage"] for _ in range(2)]
    written, read = usages[0]["cacheWriteInputTokens"], usages[1]["cacheReadInputTokens"]
    assert written == read > 100
    assert usages[0]["cacheDetails"] == [{"ttl": "5m", "inputTokens": written}]
    assert usages[1]["cacheWriteInputTokens"] == usages[0]["cacheReadInputTokens"] == 0
    assert usages[0]["totalTokens"] == usages[1]["totalTokens"]


async def test_what_the_model_has_against_it(client: httpx.AsyncClient) -> None:
    told = "^The model returned the following errors: "
    bodies: dict[str, Json] = {
        "max_tokens: 9000 > 8192": {"inferenceConfig": {"maxTokens": 9000}},
        "voice: Extra inputs|extraneous key .voice.": {"additionalModelRequestFields": {"voice": 1}},
        "does not support thinking": {
            "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        },
        "messages.0.content.0.tool_result|unexpected `tool_use_id`": {
            "messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": []}}]}]
        },
        "does not support image input|image": {
            "messages": [
                {"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "AAAA"}}}]}
            ]
        },
    }
    for sentence, change in bodies.items():
        for path in (CONVERSE, STREAM):
            refusal = await client.post(path, json={**BODY, **change})
            is_refused(refusal, 400, "ValidationException", f"{told}.*({sentence})")


async def test_what_converse_itself_has_against_it(client: httpx.AsyncClient) -> None:
    refusal = await client.post(CONVERSE, json={**BODY, "inferenceConfig": {"temperature": 3}})
    is_refused(refusal, 400, "ValidationException", "^1 validation error detected: Value '3' at 'inference")
    refusal = await client.post(CONVERSE, content=b"[1]")
    is_refused(refusal, 400, "ValidationException", "object")
    refusal = await client.post("/model/anthropic.none-v1:0/converse", json=BODY)
    is_refused(refusal, 400, "ValidationException", "^The provided model identifier is invalid.$")
    refusal = await client.get(CONVERSE)
    assert refusal.status_code == 405
    assert list(refusal.json()) == ["message"]


async def test_hosted_refuses_more(bedrock: Bedrock) -> None:
    schema = json.dumps({"type": "object", "properties": {}, "additionalProperties": False})
    in_form = {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema}}}
    bodies: dict[str, Json] = {
        "is blank. Add text": {"messages": [{"role": "user", "content": [{"text": " "}]}]},
        r"extraneous key \[output_config\]": {"outputConfig": {"textFormat": in_form}},
    }
    async with bedrock.client(HOSTED) as hosted:
        assert (await hosted.post(CONVERSE, json=BODY)).status_code == 200
        for sentence, change in bodies.items():
            refusal = await hosted.post(CONVERSE, json={**BODY, **change})
            is_refused(refusal, 400, "ValidationException", sentence)
    async with bedrock.client() as friendly:
        assert (
            await friendly.post(CONVERSE, json={**BODY, "outputConfig": {"textFormat": in_form}})
        ).is_success


async def test_failures(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([], Overloaded("Overloaded"), error_after=-1)
    for path in (CONVERSE, STREAM):
        is_refused(await client.post(path, json=BODY), 503, "ServiceUnavailableException", "^Overloaded$")
    engine.script = lambda _request: Script([*b"Hel"], EngineFailed("broke"), error_after=2)
    refusal = await client.post(CONVERSE, json=BODY)
    is_refused(refusal, 500, "InternalServerException", "^Internal server error$")
    engine.script = lambda _request: Script([*b"Hello, wor"], EngineFailed("broke"), error_after=9)
    *told, (headers, payload) = frames((await client.post(STREAM, json=BODY)).content)
    assert told[0][0][":event-type"] == "messageStart"
    assert headers[":message-type"] == "exception"
    assert headers[":exception-type"] == "modelStreamErrorException"
    assert "broke" not in str(payload)


async def test_tokens_are_counted(client: httpx.AsyncClient) -> None:
    converse = {
        "messages": BODY["messages"],
        "system": [{"text": "Be brief."}],
        "toolConfig": TOOLS,
        "additionalModelRequestFields": {"top_k": 3},
    }
    counted = (await client.post(COUNT, json={"input": {"converse": converse}})).json()
    charged = (await client.post(CONVERSE, json={**converse, "inferenceConfig": {"maxTokens": 1}})).json()
    assert counted == {"inputTokens": charged["usage"]["inputTokens"]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "input.converse.messages' failed to satisfy constraint: Member must not be null"),
        ({"messages": []}, "The model returned the following errors: messages: at least one message"),
        ({**BODY}, "#/input/converse: extraneous key .inferenceConfig. is not permitted"),
    ],
)
async def test_bad_counts(client: httpx.AsyncClient, change: Json, sentence: str) -> None:
    refusal = await client.post(COUNT, json={"input": {"converse": change}})
    is_refused(refusal, 400, "ValidationException", sentence)


def requests_drawn() -> list[Json]:
    """Some of AWS's possible requests."""
    bodies: list[Json] = []

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(requests_of("Converse"))
    def collect(body: Json) -> None:
        bodies.append(body)

    collect()
    return bodies


async def test_whatever_is_asked_is_answered_in_this_wire_s_form(client: httpx.AsyncClient) -> None:
    for body in requests_drawn():
        response = await client.post(CONVERSE, json=body)
        if response.status_code != 200:
            is_refused(response, 400, "ValidationException", ".")
