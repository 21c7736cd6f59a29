"""The wire of Vertex AI: its paths, its names for models, its ids, and which errors are Google's."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.api.config import ApiConfig, Compatibility
from hokku.api.vertex.tokens import EXCHANGE
from hokku.api.vertex.tokens import FORM as FORM_TYPE
from hokku.protocol.errors import EngineFailed, Overloaded
from hokku.protocol.records import LedgerEntry, LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.service.call_limits import CallLimits
from hokku.service.limited import LimitedReplies
from hokku.service.rate_limits import RateLimits
from hokku.storage.storage import Storage
from tests.api.conftest import KEY, client_of, services_of
from tests.api.test_fuzz import json_values
from tests.api.test_replies import read_events, text_of, types_of
from tests.clients.field import calls
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, says

HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
MODELS = "/v1/projects/p-1/locations/us-east5/publishers/anthropic/models"
MODEL = f"{MODELS}/claude-3-5-haiku@20241022"
PREDICT, STREAM, COUNT = (
    f"{MODEL}:rawPredict",
    f"{MODEL}:streamRawPredict",
    f"{MODELS}/count-tokens:rawPredict",
)
GOOD: dict[str, Any] = {
    "anthropic_version": "vertex-2023-10-16",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
QUESTION = {
    "anthropic_version": "2026-10-21",
    "model": "claude-3-5-haiku@20241022",
    "messages": GOOD["messages"],
}
TOOL = {"name": "clock", "input_schema": {"type": "object"}}
HOSTED = ApiConfig(compatibility=Compatibility.HOSTED)


def vertex_client(services: Any, config: ApiConfig | None = None) -> httpx.AsyncClient:
    client = client_of(services, config)
    client.headers = httpx.Headers(HEADERS)
    return client


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with vertex_client(services_of(engine)) as client:
        yield client


def assert_google(response: httpx.Response, status: int, word: str, message: str) -> None:
    assert response.status_code == status
    assert response.json() == {"error": {"code": status, "message": message, "status": word}}
    assert response.headers["request-id"].startswith("req_vrtx_")


def assert_envelope(response: httpx.Response, status: int, error_type: str, message: str) -> None:
    assert response.status_code == status
    assert response.json() == {
        "type": "error",
        "error": {"type": error_type, "message": message},
        "request_id": response.headers["request-id"],
    }
    assert response.headers["request-id"].startswith("req_vrtx_")


@pytest.mark.parametrize("version", ["vertex-2023-10-16", "2026-10-21"])
async def test_a_whole_reply(client: httpx.AsyncClient, version: str) -> None:
    response = await client.post(PREDICT, json=GOOD | {"anthropic_version": version})
    message = response.json()
    assert response.status_code == 200, message
    assert re.fullmatch(r"msg_vrtx_01[1-9A-Za-z]{22}", message["id"])
    assert re.fullmatch(r"req_vrtx_011C[1-9A-Za-z]{24}", response.headers["request-id"])
    assert (message["model"], message["stop_reason"]) == (MODEL_ID, "end_turn")
    assert message["content"] == [{"type": "text", "text": "Hello, world!"}]
    assert "anthropic-organization-id" not in response.headers


@pytest.mark.parametrize("path", [PREDICT, STREAM])
async def test_the_body_says_whether_the_reply_is_streamed(client: httpx.AsyncClient, path: str) -> None:
    whole = await client.post(path, json=GOOD)
    assert whole.json()["type"] == "message"
    streamed = await client.post(path, json=GOOD | {"stream": True})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = read_events(streamed.text)
    assert text_of(events) == "Hello, world!"
    assert events[0]["message"]["id"].startswith("msg_vrtx_01")
    assert types_of(events)[-2:] == ["message_delta", "message_stop"]


async def test_calls_have_this_wire_s_ids(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says(calls("clock", {"zone": "UTC"}))
    asked = GOOD | {"tools": [TOOL]}
    [call] = (await client.post(PREDICT, json=asked)).json()["content"]
    assert (call["name"], call["input"]) == ("clock", {"zone": "UTC"})
    assert call["id"].startswith("toolu_vrtx_01")
    events = read_events((await client.post(STREAM, json=asked | {"stream": True})).text)
    started = next(event for event in events if event["type"] == "content_block_start")
    assert started["content_block"]["id"].startswith("toolu_vrtx_01")
    # The id is the client's to give back.
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "noon"}
    turns = [
        *GOOD["messages"],
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    assert (await client.post(PREDICT, json=asked | {"messages": turns})).status_code == 200


@pytest.mark.parametrize("base", ["", "/v1", "/v1beta1"])
@pytest.mark.parametrize("location", ["us-east5", "global", "europe-west1"])
@pytest.mark.parametrize(
    "name",
    [
        "claude-3-5-haiku@20241022",
        "claude-3-5-haiku%4020241022",
        "claude-3-5-haiku@latest",
        "claude-3-5-haiku",
        MODEL_ID,
        ALIAS,
    ],
)
async def test_paths_and_names(client: httpx.AsyncClient, base: str, location: str, name: str) -> None:
    path = f"{base}/projects/any/locations/{location}/publishers/anthropic/models/{name}:rawPredict"
    response = await client.post(path, json=GOOD)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == MODEL_ID


async def test_tokens_are_counted(client: httpx.AsyncClient) -> None:
    response = await client.post(COUNT, json=QUESTION)
    assert response.json() == {"input_tokens": len(b"user: Hi\n")}
    reply = (await client.post(PREDICT, json=GOOD)).json()
    assert reply["usage"]["input_tokens"] == len(b"user: Hi\n")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "is missing a required"),
        ({"authorization": "Basic x"}, "is missing a required"),
        ({"x-api-key": KEY}, "is missing a required"),
        ({"authorization": "Bearer ya29.a0-from-elsewhere"}, "had an invalid"),
    ],
)
@pytest.mark.parametrize("path", [PREDICT, STREAM, COUNT])
async def test_bad_credentials(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], said: str
) -> None:
    client.headers = httpx.Headers({"content-type": "application/json"} | headers)
    response = await client.post(path, json=GOOD)
    sentence = (
        f"Request {said} authentication credential. Expected an API key of this server as bearer token."
    )
    assert_google(response, 401, "UNAUTHENTICATED", sentence)
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path", [f"{MODELS}/claude-foo@1:rawPredict", f"{MODELS}/claude-foo@1:streamRawPredict"]
)
async def test_an_unknown_model(client: httpx.AsyncClient, path: str) -> None:
    sentence = (
        "Publisher Model `projects/p-1/locations/us-east5/publishers/anthropic/models/claude-foo@1` was not found or "
        "your project does not have access to it. Please ensure you are using a valid model version."
    )
    assert_google(await client.post(path, json=GOOD), 404, "NOT_FOUND", sentence)


async def test_an_unknown_model_to_count_for(client: httpx.AsyncClient) -> None:
    response = await client.post(COUNT, json=QUESTION | {"model": "claude-foo"})
    assert_google(response, 404, "NOT_FOUND", "model: claude-foo")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/projects",
        "/projects/p",
        f"{MODEL}:predict",
        f"{MODELS}/x",
        f"{MODELS.replace('anthropic', 'google')}",
    ],
)
async def test_unknown_paths_are_answered_in_google_s_form(client: httpx.AsyncClient, path: str) -> None:
    assert_google(await client.get(path), 404, "NOT_FOUND", "Not found")


async def test_a_wrong_method(client: httpx.AsyncClient) -> None:
    response = await client.get(PREDICT)
    assert_envelope(response, 405, "invalid_request_error", "Method GET is not allowed here")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anthropic_version": None}, "anthropic_version: Input should be a valid string"),
        ({"anthropic_version": "2023-06-01"}, 'anthropic_version: "2023-06-01" is not a valid version'),
        ({"model": ALIAS}, "model: Extra inputs are not permitted"),
        ({"anthropic_beta": "x"}, "anthropic_beta: Input should be a valid array"),
        ({"anthropic_beta": [7]}, "anthropic_beta.0: Input should be a valid string"),
        ({"bogus": 1}, "bogus: Extra inputs are not permitted"),
        ({"messages": []}, "messages: at least one message is required"),
        (
            {"max_tokens": 9000},
            f"max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for {MODEL_ID}",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            f"'{MODEL_ID}' does not support thinking.",
        ),
    ],
)
async def test_what_is_wrong_in_a_body_is_said_in_the_envelope(
    client: httpx.AsyncClient, changes: dict[str, Any], message: str
) -> None:
    for path in (PREDICT, STREAM):
        assert_envelope(await client.post(path, json=GOOD | changes), 400, "invalid_request_error", message)


async def test_a_body_needs_a_version(client: httpx.AsyncClient) -> None:
    for path, body in ((PREDICT, GOOD), (COUNT, QUESTION)):
        unversioned = {key: value for key, value in body.items() if key != "anthropic_version"}
        response = await client.post(path, json=unversioned)
        assert_envelope(response, 400, "invalid_request_error", "anthropic_version: Field required")


async def test_the_version_says_what_a_body_may_hold(engine: FakeEngine) -> None:
    async with vertex_client(services_of(engine), HOSTED) as client:
        warm = GOOD | {"temperature": 0.5}
        assert (await client.post(PREDICT, json=warm)).status_code == 200
        refused = await client.post(PREDICT, json=warm | {"anthropic_version": "2026-10-21"})
        assert refused.status_code == 400
        assert "temperature" in refused.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["image", "document"])
@pytest.mark.parametrize(
    "source", [{"type": "url", "url": "https://a.example/x"}, {"type": "file", "file_id": "file_1"}]
)
async def test_the_hosted_cloud_takes_no_named_files(
    engine: FakeEngine, kind: str, source: dict[str, str]
) -> None:
    asked = GOOD | {"messages": [{"role": "user", "content": [{"type": kind, "source": source}]}]}
    async with vertex_client(services_of(engine), HOSTED) as client:
        message = (await client.post(PREDICT, json=asked)).json()["error"]["message"]
    assert message.startswith(
        f"messages.0.content.0.{kind}.source: Input tag '{source['type']}' found using 'type' does not match any of "
        "the expected tags: 'base64'"
    )


@pytest.mark.parametrize(
    ("headers", "changes", "place"),
    [
        ({"anthropic-beta": "bogus-1"}, {}, "`anthropic-beta` header"),
        ({}, {"anthropic_beta": ["bogus-1"]}, "member `anthropic_beta`"),
    ],
)
async def test_betas_come_in_the_header_or_in_the_body(
    engine: FakeEngine, headers: dict[str, str], changes: dict[str, Any], place: str
) -> None:
    async with vertex_client(services_of(engine), HOSTED) as client:
        response = await client.post(PREDICT, json=GOOD | changes, headers=headers)
    assert response.status_code == 400
    assert f"`bogus-1` for the {place}." in response.json()["error"]["message"]


@pytest.mark.parametrize("changes", [{}, {"anthropic_beta": ["model-context-window-exceeded-2025-08-26"]}])
async def test_a_beta_of_the_body_is_honoured(
    client: httpx.AsyncClient, engine: FakeEngine, changes: dict[str, Any]
) -> None:
    engine.context_window_tokens = 20
    message = (await client.post(PREDICT, json=GOOD | {"max_tokens": 8192} | changes)).json()
    assert message["stop_reason"] == ("model_context_window_exceeded" if changes else "max_tokens")


async def test_a_client_may_say_that_nobody_else_shall_answer(client: httpx.AsyncClient) -> None:
    response = await client.post(PREDICT, json=GOOD, headers={"hokku-fallback": "somebody"})
    assert_envelope(response, 400, "invalid_request_error", 'hokku-fallback: may only be "none"')


@pytest.mark.parametrize("size", [2_000, 200_000])
async def test_large_bodies(engine: FakeEngine, size: int) -> None:
    async with vertex_client(services_of(engine), ApiConfig(max_body_bytes=1_000)) as client:
        response = await client.post(PREDICT, json=GOOD | {"system": "x" * size})
    assert_envelope(
        response, 413, "request_too_large", "Request exceeds the maximum allowed number of bytes."
    )


async def test_failures_of_the_model_are_its_own(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([], Overloaded("Overloaded"), error_after=-1)
    assert_envelope(await client.post(PREDICT, json=GOOD), 529, "overloaded_error", "Overloaded")
    engine.script = lambda _request: Script(list(b"Hello"), EngineFailed("a secret"), error_after=3)
    events = read_events((await client.post(STREAM, json=GOOD | {"stream": True})).text)
    assert text_of(events) == "Hel"
    assert events[-1] == {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}


async def test_limits_are_answered_in_google_s_form(engine: FakeEngine, tmp_path: Path) -> None:
    services = services_of(engine)
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    storage.limits.put(LimitRule(None, None, 1, count_calls_per_minute=1))
    limits = RateLimits(storage, LocalBuckets(), "org")
    limited = LimitedReplies(services.messages, limits, services.catalogue.manifest)  # type: ignore[arg-type]
    call_limits = CallLimits(storage, LocalBuckets(), "org")
    async with vertex_client(replace(services, messages=limited, call_limits=call_limits)) as client:
        for path, body in ((PREDICT, GOOD), (COUNT, QUESTION)):
            assert (await client.post(path, json=body)).status_code == 200
            refused = await client.post(path, json=body)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["status"]) == (429, 429, "RESOURCE_EXHAUSTED")
            assert "rate limit of 1 " in error["message"]
            assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        (PREDICT, {"max_tokens": "many"}, 400),
        (STREAM, {"bogus": 1}, 400),
        (f"{MODELS}/claude-foo:rawPredict", {}, 404),
    ],
)
async def test_a_refused_body_is_a_row(
    engine: FakeEngine, path: str, changes: dict[str, Any], status: int
) -> None:
    booked: list[LedgerEntry] = []
    async with vertex_client(replace(services_of(engine), book=booked.append)) as client:
        response = await client.post(path, json=GOOD | changes)
        stranger = await client.post(path, json=GOOD, headers={"authorization": "Bearer x"})
    assert (response.status_code, stranger.status_code) == (status, 401)
    (entry,) = booked
    assert (entry.request_id, entry.outcome) == (response.headers["request-id"], "errored")


FORM = {
    "grant_type": EXCHANGE,
    "audience": "hokku",
    "subject_token": KEY,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


async def test_a_key_is_exchanged_for_itself(client: httpx.AsyncClient) -> None:
    del client.headers["content-type"]
    del client.headers["authorization"]
    response = await client.post("/v1/token", data=FORM)
    assert response.status_code == 200
    granted = response.json()
    assert (granted["access_token"], granted["token_type"]) == (KEY, "Bearer")
    assert granted["expires_in"] > 0
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        (FORM | {"subject_token": "sk-wrong"}, "invalid_grant"),
        (FORM | {"subject_token": ""}, "invalid_grant"),
        (FORM | {"grant_type": "refresh_token"}, "unsupported_grant_type"),
        ({}, "unsupported_grant_type"),
        (dict.fromkeys(map(str, range(30)), "x"), "invalid_request"),
        ({"x": "\ud800"}, "invalid_request"),
    ],
)
async def test_whatever_else_is_not_exchanged(
    client: httpx.AsyncClient, form: dict[str, str], error: str
) -> None:
    body = urlencode(form, errors="surrogatepass")
    response = await client.post("/v1/token", content=body, headers={"content-type": FORM_TYPE})
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert KEY not in response.text


async def test_a_form_is_told_from_json(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/token", json=FORM)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


async def test_a_large_form_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/token", content=b"x=" + b"y" * 20_000, headers={"content-type": FORM_TYPE}
    )
    assert response.status_code == 413


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(
            [
                "anthropic_version",
                "anthropic_beta",
                "model",
                "messages",
                "stream",
                "max_tokens",
                "system",
                "x",
            ]
        ),
        json_values,
        max_size=3,
    ),
    path=st.sampled_from([PREDICT, STREAM, COUNT]),
)
async def test_any_body_is_answered_in_a_form_of_this_wire(
    client: httpx.AsyncClient, changes: dict[str, Any], path: str
) -> None:
    response = await client.post(path, content=json.dumps(GOOD | changes))
    assert response.status_code in (200, 400, 404)
    if response.status_code == 200 and "event-stream" in response.headers["content-type"]:
        return
    body = response.json()
    if response.status_code == 404:
        assert body["error"].keys() == {"code", "message", "status"}
    elif response.status_code == 400:
        assert body["error"].keys() == {"type", "message"}
