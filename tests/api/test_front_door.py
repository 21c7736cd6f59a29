"""What every request meets first: credentials, versions, betas, sizes, encodings, routes, headers, health."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig, Compatibility
from hokku.protocol.records import DEFAULT_WORKSPACE_ID
from tests.api.conftest import HEADERS, KEY, client_of, services_of
from tests.api.test_body_errors import GOOD
from tests.fakes import FakeEngine

LIMIT = 10_000


def headers_without(*names: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in HEADERS.items() if name not in names}
    return kept | {name.replace("_", "-"): value for name, value in more.items()}


async def answer(services: Any, headers: dict[str, str], config: ApiConfig | None = None) -> httpx.Response:
    async with client_of(services, config) as client:
        client.headers = httpx.Headers(headers)
        return await client.post("/v1/messages", content=json.dumps(GOOD))


def assert_error(response: httpx.Response, status: int, error_type: str, message: str) -> None:
    body = response.json()
    assert (response.status_code, body["error"]["type"], body["error"]["message"]) == (
        status,
        error_type,
        message,
    )
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (headers_without("x-api-key"), "x-api-key header is required"),
        (headers_without(x_api_key="sk-wrong"), "invalid x-api-key"),
        (headers_without("x-api-key", authorization="Bearer sk-wrong"), "Invalid bearer token"),
        (headers_without("x-api-key", authorization="Bearer"), "Invalid bearer token"),
        (headers_without("x-api-key", authorization=f"Basic {KEY}"), "x-api-key header is required"),
        (headers_without("anthropic-version", x_api_key="sk-wrong"), "invalid x-api-key"),
    ],
)
async def test_bad_credentials(engine: FakeEngine, headers: dict[str, str], message: str) -> None:
    response = await answer(services_of(engine), headers)
    assert_error(response, 401, "authentication_error", message)
    assert "anthropic-workspace-id" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        HEADERS,
        headers_without("x-api-key", authorization=f"Bearer {KEY}"),
        headers_without("x-api-key", authorization=f"bearer {KEY}"),
        headers_without(x_api_key="sk-wrong", authorization=f"Bearer {KEY}"),
        headers_without(anthropic_version="2026-10-21"),
        headers_without(anthropic_version="2023-01-01"),
        headers_without(anthropic_beta="pdfs-2024-09-25, prompt-caching-2024-07-31,"),
        headers_without(anthropic_beta="from-the-future-2031-01-01"),
        headers_without(content_type="application/json; charset=utf-8"),
    ],
)
async def test_good_headers(engine: FakeEngine, headers: dict[str, str]) -> None:
    response = await answer(services_of(engine), headers)
    assert response.status_code == 200
    assert re.fullmatch(r"req_011C[1-9A-HJ-NP-Za-km-z]{24}", response.headers["request-id"])
    assert response.headers["anthropic-organization-id"]
    assert response.headers["anthropic-workspace-id"].startswith("wrkspc_")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (headers_without("anthropic-version"), "anthropic-version: header is required"),
        (
            headers_without(anthropic_version="2025-04-14"),
            'anthropic-version: "2025-04-14" is not a valid version',
        ),
        (headers_without("content-type"), "content-type: Input should be 'application/json'"),
        (headers_without(content_type="text/plain"), "content-type: Input should be 'application/json'"),
        (
            headers_without(content_encoding="br"),
            "content-encoding 'br' is not supported; send identity or gzip",
        ),
        (headers_without(content_encoding="gzip"), "The request body could not be decoded as gzip"),
    ],
)
async def test_bad_headers(engine: FakeEngine, headers: dict[str, str], message: str) -> None:
    assert_error(await answer(services_of(engine), headers), 400, "invalid_request_error", message)


async def test_unknown_betas_when_hosted(engine: FakeEngine) -> None:
    hosted = ApiConfig(compatibility=Compatibility.HOSTED)
    headers = headers_without(anthropic_beta="pdfs-2024-09-25,what-2031-01-01,mid-conversation-x")
    response = await answer(services_of(engine), headers, hosted)
    assert response.json()["error"]["message"].startswith(
        "Unexpected value(s) `what-2031-01-01` for the `anthropic-beta` header."
    )


async def test_workspace_header_must_match_the_key(engine: FakeEngine) -> None:
    response = await answer(services_of(engine), headers_without(anthropic_workspace_id="wrkspc_other"))
    assert_error(
        response, 403, "permission_error", "anthropic-workspace-id: this key belongs to another workspace"
    )


@pytest.mark.parametrize("headers", [headers_without("x-api-key"), headers_without(x_api_key="whatever")])
async def test_open_access(engine: FakeEngine, headers: dict[str, str]) -> None:
    response = await answer(services_of(engine, open_access=True), headers)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": ', "Expecting value: line 1 column 7 (char 6)"),
        (b'{\n"a": x}', "Expecting value: line 2 column 6 (char 7)"),
        (b'{"a": "\xff"}', "invalid UTF-8: line 1 column 8 (char 7)"),
        (b'{"a": NaN}', "NaN is no JSON value: line 1 column 1 (char 0)"),
        (rb'{"a": "\ud83d!"}', "no low surrogate in string: line 1 column 8 (char 7)"),
        (rb'{"a": "\\ud83d \ud83d\ude00 \ude00"}', "no low surrogate in string: line 1 column 29 (char 28)"),
        (b"[" * 200_000, "nesting is too deep: line 1 column 1 (char 0)"),
        (
            b'{"max_tokens": ' + b"9" * 5000 + b"}",
            "Exceeds the limit (4300 digits) for integer string conversion: line 1 column 1 (char 0)",
        ),
    ],
)
async def test_broken_json(client: httpx.AsyncClient, body: bytes, message: str) -> None:
    response = await client.post("/v1/messages", content=body)
    sentence = f"The request body is not valid JSON: {message}"
    assert_error(response, 400, "invalid_request_error", sentence)


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"null", b"7"])
async def test_json_that_is_no_object(client: httpx.AsyncClient, body: bytes) -> None:
    assert_error(
        await client.post("/v1/messages", content=body),
        400,
        "invalid_request_error",
        "Input should be an object",
    )


async def test_escaped_surrogate_pairs_are_characters(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    body = json.dumps(GOOD | {"messages": [{"role": "user", "content": "😀 \\ud83d"}]})
    assert (await client.post("/v1/messages", content=body)).status_code == 200
    assert bytes(engine.requests[-1].prompt).decode() == "user: 😀 \\ud83d\n"


@pytest.mark.parametrize("declared", [True, False])
async def test_body_over_the_limit(engine: FakeEngine, declared: bool) -> None:
    body = b'{"x": "' + b"x" * LIMIT + b'"}'

    async def chunks() -> Any:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with client_of(services_of(engine), ApiConfig(max_body_bytes=LIMIT)) as client:
        response = await client.post("/v1/messages", content=body if declared else chunks())
    message = "Request exceeds the maximum allowed number of bytes."
    assert_error(response, 413, "request_too_large", message)


async def test_long_names_are_quoted_short(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/messages", json=GOOD | {"x" * 1_000_000: 1})
    assert response.status_code == 400
    assert len(response.content) < 5_000


async def test_gzip_bodies(client: httpx.AsyncClient) -> None:
    body = gzip.compress(json.dumps(GOOD).encode())
    assert (
        await client.post("/v1/messages", content=body, headers={"content-encoding": "gzip"})
    ).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (gzip.compress(b"x" * LIMIT * 100), 413, "request_body_too_large_after_decoding"),
        (gzip.compress(b"{}")[:-1], 400, "request_body_encoding_invalid"),
        (gzip.compress(b"{}") + b"x", 400, "request_body_encoding_invalid"),
        (b"", 400, "request_body_encoding_invalid"),
    ],
)
async def test_bad_gzip(engine: FakeEngine, body: bytes, status: int, code: str) -> None:
    async with client_of(services_of(engine), ApiConfig(max_body_bytes=LIMIT)) as client:
        response = await client.post("/v1/messages", content=body, headers={"content-encoding": "gzip"})
    assert response.status_code == status
    assert response.json()["error"]["details"] == {"error_code": code}


async def test_every_response_names_its_request_and_workspace(client: httpx.AsyncClient) -> None:
    whole = await client.post("/v1/messages", json=GOOD)
    streamed = await client.post("/v1/messages", json=GOOD | {"stream": True})
    refused = await client.post("/v1/messages", json={})
    unknown = await client.post("/v1/messages", json=GOOD, headers={"x-api-key": "nobody's"})
    responses = [whole, streamed, refused, unknown]
    assert [response.status_code for response in responses] == [200, 200, 400, 401]
    assert len({response.headers["request-id"] for response in responses}) == 4
    assert {response.headers["anthropic-organization-id"] for response in responses} == {
        ApiConfig().organization_id
    }
    assert streamed.headers["cache-control"] == "no-cache"
    assert streamed.headers["x-accel-buffering"] == "no"
    for good in (whole, streamed):
        assert good.headers["anthropic-workspace-id"] == DEFAULT_WORKSPACE_ID
    assert "anthropic-workspace-id" not in unknown.headers


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/messages/", "/v2/messages"])
async def test_unknown_path(client: httpx.AsyncClient, path: str) -> None:
    assert_error(await client.get(path), 404, "not_found_error", "Not found")


async def test_wrong_method(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/messages")
    assert_error(response, 405, "invalid_request_error", "Method GET is not allowed here")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", ["/", "/api/hello"])
async def test_agent_clis_find_the_server(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path)).status_code == 200


async def test_readiness(engine: FakeEngine) -> None:
    loading, ready = services_of(None), services_of(engine)
    async with client_of(loading) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        response = await client.post("/v1/messages", json=GOOD)
        assert_error(response, 529, "overloaded_error", "The model is still loading")
        assert response.headers["x-should-retry"] == "true"
        assert response.headers["retry-after"] == "1"
    async with client_of(ready) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_cross_origin(client: httpx.AsyncClient) -> None:
    asked = {"origin": "https://example.org", "access-control-request-headers": "authorization,x-api-key"}
    preflight = await client.options("/v1/messages", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-headers"] == "authorization,x-api-key"
    response = await client.post("/v1/messages", json=GOOD)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "request-id" in response.headers["access-control-expose-headers"]


async def test_open_access_has_no_preflight(engine: FakeEngine) -> None:
    async with client_of(services_of(engine, open_access=True)) as client:
        assert "access-control-allow-origin" not in (await client.options("/v1/messages")).headers


async def test_unforeseen_failures_show_nothing(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_request: object) -> Any:
        raise ZeroDivisionError("secret detail")

    engine.script = broken
    async with client_of(services_of(engine)) as client:
        response = await client.post("/v1/messages", json=GOOD)
    assert_error(response, 500, "api_error", "Internal server error")
    assert response.headers["x-should-retry"] == "true"
    assert response.headers["request-id"] in caplog.text
    assert "secret detail" in caplog.text
