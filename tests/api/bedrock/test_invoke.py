"""InvokeModel, whole and streamed, and CountTokens, over the fake engine."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Compatibility
from hokku.protocol.engine import GenerationRequest
from hokku.protocol.errors import EngineFailed, HokkuError, Overloaded
from tests.api.bedrock.conftest import BODY, MODEL, PROFILE, Bedrock, frames
from tests.api.conftest import client_of, services_of
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, says

INVOKE = f"/model/{PROFILE}/invoke"
STREAM = f"/model/{PROFILE}/invoke-with-response-stream"
COUNT = f"/model/{PROFILE}/count-tokens"
HOSTED = ApiConfig(Compatibility.HOSTED)
TOOL = {"name": "clock", "description": "the time", "input_schema": {"type": "object"}}


def is_refused(response: httpx.Response, status: int, name: str, sentence: str) -> None:
    assert response.status_code == status
    assert response.headers["x-amzn-errortype"].partition(":")[0] == name
    assert list(response.json()) == ["message"]
    assert re.search(sentence, response.json()["message"])
    uuid.UUID(response.headers["x-amzn-requestid"])
    assert "request-id" not in response.headers


async def test_a_whole_message(client: httpx.AsyncClient) -> None:
    response = await client.post(INVOKE, json=BODY)
    assert response.status_code == 200
    message = response.json()
    assert message["content"] == [{"type": "text", "text": "Hello, world!"}]
    assert message["id"].startswith("msg_bdrk_01")
    assert message["model"] == MODEL_ID
    headers = response.headers
    uuid.UUID(headers["x-amzn-requestid"])
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-bedrock-input-token-count"] == str(message["usage"]["input_tokens"])
    assert headers["x-amzn-bedrock-output-token-count"] == str(message["usage"]["output_tokens"])
    assert headers["x-amzn-bedrock-cache-read-input-token-count"] == "0"
    assert headers["x-amzn-bedrock-cache-write-input-token-count"] == "0"
    assert int(headers["x-amzn-bedrock-invocation-latency"]) >= 0


async def test_the_same_as_on_the_vendor_s_own_wire(bedrock: Bedrock, client: httpx.AsyncClient) -> None:
    invoked = (await client.post(INVOKE, json=BODY)).json()
    body = {key: value for key, value in BODY.items() if key != "anthropic_version"} | {"model": ALIAS}
    async with client_of(bedrock.services) as own:
        message = (await own.post("/v1/messages", json=body)).json()
    assert {**message, "id": ""} == {**invoked, "id": ""}


async def test_a_streamed_message(client: httpx.AsyncClient) -> None:
    response = await client.post(STREAM, json=BODY)
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert response.headers["x-amzn-bedrock-content-type"] == "application/json"
    read = frames(response.content)
    for headers, payload in read:
        assert headers[":message-type"] == "event"
        assert headers[":event-type"] == "chunk"
        assert list(payload) == ["bytes"]
    events = [json.loads(base64.b64decode(payload["bytes"])) for _, payload in read]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "ping" not in kinds
    assert events[0]["message"]["id"].startswith("msg_bdrk_01")
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == "Hello, world!"
    metrics = events[-1]["amazon-bedrock-invocationMetrics"]
    usage = events[-2]["usage"]
    assert metrics["inputTokenCount"] == usage["input_tokens"]
    assert metrics["outputTokenCount"] == usage["output_tokens"]
    assert 0 <= metrics["firstByteLatency"] <= metrics["invocationLatency"]
    assert "cacheReadInputTokenCount" not in metrics


async def test_what_the_cache_did(client: httpx.AsyncClient) -> None:
    words = {"type": "text", "text": "Once upon a time. " * 30, "cache_control": {"type": "ephemeral"}}
    body = BODY | {"messages": [{"role": "user", "content": [words]}]}
    written = await client.post(INVOKE, json=body)
    read = await client.post(INVOKE, json=body)
    num_tokens = int(written.headers["x-amzn-bedrock-cache-write-input-token-count"])
    assert num_tokens > 500
    assert read.headers["x-amzn-bedrock-cache-read-input-token-count"] == str(num_tokens)
    _, last = frames((await client.post(STREAM, json=body)).content)[-1]
    metrics = json.loads(base64.b64decode(last["bytes"]))["amazon-bedrock-invocationMetrics"]
    assert (metrics["cacheReadInputTokenCount"], metrics["cacheWriteInputTokenCount"]) == (num_tokens, 0)


async def test_calls_have_ids_of_this_wire(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says('<call name="clock">{}</call>')
    body = BODY | {"tools": [TOOL], "max_tokens": 200}
    message = (await client.post(INVOKE, json=body)).json()
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    for call in calls:
        assert call["id"].startswith("toolu_bdrk_01")


@pytest.mark.parametrize(
    "name",
    [
        MODEL,
        PROFILE,
        f"eu.{MODEL}",
        MODEL.replace(":", "%3A"),
        f"arn:aws:bedrock:us-west-2::foundation-model/{MODEL}",
        f"arn:aws:bedrock:us-west-2:123456789012:inference-profile/{PROFILE}",
        f"arn:aws:bedrock:us-west-2:123456789012:application-inference-profile/{ALIAS}".replace("/", "%2F"),
        ALIAS,
        MODEL_ID,
    ],
)
async def test_names_of_models(client: httpx.AsyncClient, name: str) -> None:
    for verb in ("invoke", "invoke-with-response-stream"):
        assert (await client.post(f"/model/{name}/{verb}", json=BODY)).status_code == 200


async def test_names_of_no_model(bedrock: Bedrock, client: httpx.AsyncClient) -> None:
    unknown = "The provided model identifier is invalid."
    for name in (
        "anthropic.claude-9-v1:0",
        "x",
        "arn:aws:bedrock:us-west-2::foundation-model/x",
        "us.",
        "a/b",
    ):
        is_refused(await client.post(f"/model/{name}/invoke", json=BODY), 400, "ValidationException", unknown)
    async with bedrock.client(HOSTED) as hosted:
        for name in (f"eu.{MODEL}", ALIAS, MODEL_ID):
            response = await hosted.post(f"/model/{name}/invoke", json=BODY)
            is_refused(response, 400, "ValidationException", unknown)
        for name in (MODEL, PROFILE):
            assert (await hosted.post(f"/model/{name}/invoke", json=BODY)).status_code == 200


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in BODY.items() if name != key}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            without("anthropic_version"),
            r"Malformed input request: #: required key \[anthropic_version\] not found, ",
        ),
        (
            without("max_tokens"),
            r"required key \[max_tokens\] not found, please reformat your input and try again\.",
        ),
        (without("messages"), r"required key \[messages\] not found"),
        (
            BODY | {"x": 1},
            r"^Malformed input request: #: extraneous key \[x\] is not permitted, please reformat",
        ),
        (BODY | {"model": ALIAS}, r"extraneous key \[model\]"),
        (BODY | {"stream": True}, r"extraneous key \[stream\]"),
        (
            BODY | {"anthropic_version": "2023-06-01"},
            '^anthropic_version: "2023-06-01" is not a valid version$',
        ),
        (BODY | {"anthropic_version": 1}, "^anthropic_version: Input should be a valid string$"),
        (BODY | {"anthropic_beta": "x"}, "^anthropic_beta: Input should be a valid array$"),
        (BODY | {"anthropic_beta": [1]}, r"^anthropic_beta\.0: Input should be a valid string$"),
        (BODY | {"user_profile_id": 1}, "^user_profile_id: Input should be a valid string$"),
        (BODY | {"max_tokens": 9000}, "^max_tokens: 9000 > 8192, which is the maximum allowed"),
        (BODY | {"messages": []}, "^messages: at least one message is required$"),
        (BODY | {"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
    ],
)
async def test_bodies_that_are_refused(
    client: httpx.AsyncClient, body: dict[str, Any], sentence: str
) -> None:
    for path in (INVOKE, STREAM):
        is_refused(await client.post(path, json=body), 400, "ValidationException", sentence)


async def test_bytes_that_are_no_body(client: httpx.AsyncClient) -> None:
    for body in (b"", b"{", b"[]", b"\xff", b'{"a":NaN}', b"[" * 100_000):
        response = await client.post(INVOKE, content=body)
        is_refused(response, 400, "ValidationException", "valid JSON|should be an object")
    response = await client.post(INVOKE, content=b" " * 25_000_001)
    is_refused(response, 413, "RequestEntityTooLargeException", "maximum allowed number of bytes")


async def test_what_the_hosted_one_refuses(bedrock: Bedrock, client: httpx.AsyncClient) -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}
    refused = [
        (BODY | {"cache_control": {"type": "ephemeral"}}, r"extraneous key \[cache_control\]"),
        (BODY | {"output_config": {}}, r"extraneous key \[output_config\]"),
        (BODY | {"anthropic_beta": ["nothing-2020-01-01"]}, "^invalid beta flag$"),
        (BODY | {"messages": [{"role": "user", "content": [by_url]}]}, "'url' found using 'type'"),
    ]
    async with bedrock.client(HOSTED) as hosted:
        for body, sentence in refused:
            is_refused(await hosted.post(INVOKE, json=body), 400, "ValidationException", sentence)
    for body, _ in refused[:3]:
        assert (await client.post(INVOKE, json=body)).status_code == 200


async def test_both_versions(client: httpx.AsyncClient) -> None:
    for version in ("bedrock-2023-05-31", "2026-10-21"):
        body = BODY | {"anthropic_version": version, "temperature": 0.5, "user_profile_id": "u"}
        assert (await client.post(INVOKE, json=body)).status_code == 200


async def test_headers(client: httpx.AsyncClient) -> None:
    asked = {
        "x-amzn-bedrock-performanceconfig-latency": "optimized",
        "x-amzn-bedrock-service-tier": "flex",
        "x-amzn-bedrock-trace": "ENABLED",
    }
    for path in (INVOKE, STREAM):
        response = await client.post(path, json=BODY, headers=asked)
        assert response.headers["x-amzn-bedrock-performanceconfig-latency"] == "optimized"
        assert response.headers["x-amzn-bedrock-service-tier"] == "flex"
        for name in asked:
            refused = await client.post(path, json=BODY, headers={name: "x"})
            is_refused(refused, 400, "ValidationException", f"{name}: Input should be one of")
        guarded = {"x-amzn-bedrock-guardrailidentifier": "g", "x-amzn-bedrock-guardrailversion": "1"}
        response = await client.post(path, json=BODY, headers=guarded)
        is_refused(response, 400, "ValidationException", "guardrail identifier or version .* does not exist")
    body = json.dumps(BODY)
    for content_type in ("application/json; charset=utf-8", "application/octet-stream", "*/*"):
        response = await client.post(INVOKE, content=body, headers={"content-type": content_type})
        assert response.status_code == 200
    response = await client.post(INVOKE, content=body, headers={"content-type": "text/plain"})
    is_refused(response, 400, "ValidationException", "contentType")


async def test_no_content_type_at_all(client: httpx.AsyncClient) -> None:
    """As boto3 sends it."""
    del client.headers["content-type"]
    assert (await client.post(INVOKE, content=json.dumps(BODY))).status_code == 200


def fails_with(error: HokkuError) -> Callable[[GenerationRequest], Script]:
    return lambda _: Script([], error)


async def test_a_failure_before_the_first_byte(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    failures: list[tuple[HokkuError, int, str]] = [
        (EngineFailed("kernel exploded"), 500, "InternalServerException"),
        (Overloaded("Overloaded"), 503, "ServiceUnavailableException"),
    ]
    for error, status, name in failures:
        engine.script = fails_with(error)
        for path in (INVOKE, STREAM):
            response = await client.post(path, json=BODY)
            is_refused(response, status, name, "^Internal server error$|^Overloaded$")


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (EngineFailed("kernel exploded"), "modelStreamErrorException"),
        (Overloaded("Overloaded"), "serviceUnavailableException"),
        (Exception("secret"), "internalServerException"),
    ],
)
async def test_a_failure_in_the_middle_of_a_stream(
    client: httpx.AsyncClient, engine: FakeEngine, error: Any, name: str
) -> None:
    engine.script = lambda _: Script([*b"Hel"], error, 3)
    *_, (headers, payload) = frames((await client.post(STREAM, json=BODY)).content)
    assert headers[":message-type"] == "exception"
    assert headers[":exception-type"] == name
    assert payload["message"] in ("Internal server error", "Overloaded")
    assert ("originalStatusCode" in payload) == (name == "modelStreamErrorException")


async def test_a_model_that_is_still_loading(bedrock: Bedrock) -> None:
    loading = Bedrock(replace(services_of(None), keys=bedrock.services.keys), bedrock.storage, bedrock.pair)
    async with loading.client() as client:
        response = await client.post(INVOKE, json=BODY)
        is_refused(response, 429, "ModelNotReadyException", "still loading")
        assert response.headers["retry-after"] == "1"


async def test_paths_and_methods_that_are_none(client: httpx.AsyncClient) -> None:
    is_refused(await client.post("/model"), 404, "ResourceNotFoundException", "Not found")
    is_refused(await client.post(f"/model/{MODEL}/whistle"), 404, "ResourceNotFoundException", "Not found")
    is_refused(await client.get(INVOKE), 405, "ValidationException", "Method GET is not allowed here")


async def test_counting(bedrock: Bedrock, client: httpx.AsyncClient) -> None:
    def counting(body: dict[str, Any]) -> dict[str, Any]:
        return {"input": {"invokeModel": {"body": base64.b64encode(json.dumps(body).encode()).decode()}}}

    message = (await client.post(INVOKE, json=BODY)).json()
    for body in (BODY, without("max_tokens")):
        response = await client.post(COUNT, json=counting(body))
        assert response.json() == {"inputTokens": message["usage"]["input_tokens"]}
    for body, sentence in (
        ({}, "Value at 'input' failed to satisfy constraint: Member must not be null"),
        ({"input": {}}, r"Member must have exactly one of the members \[invokeModel, converse\]"),
        ({"input": {"invokeModel": {}}}, "'input.invokeModel.body' failed"),
        ({"input": {"invokeModel": {"body": "="}}}, "Malformed input request"),
        ({"input": {"invokeModel": {"body": "bm8="}}}, "not valid JSON"),
        (counting(BODY | {"x": 1}), r"extraneous key \[x\]"),
        ({**counting(BODY), "x": 1}, r"Malformed input request: #: extraneous key \[x\]"),
    ):
        is_refused(await client.post(COUNT, json=body), 400, "ValidationException", sentence)
