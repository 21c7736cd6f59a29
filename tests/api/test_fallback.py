"""Fallback on the wire: which model the response names, and what a client may say about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from anthropic import Anthropic

from hokku.api.config import ApiConfig, Compatibility, Services
from hokku.api.http import create_app
from hokku.protocol.errors import EngineFailed, InvalidRequest, UpstreamFailed
from hokku.registry.fallback import Fallback, LocalTarget, Reason, UpstreamTarget
from hokku.service.draining import Drain
from hokku.service.fallback import FallbackService
from hokku.service.keys import KeyRing, hash_key
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.readiness import Readiness
from hokku.upstream.client import FORMS, Upstream
from hokku.upstream.config import UpstreamConfig
from tests.api.conftest import (
    HEADERS,
    KEY,
    NO_ADMINISTRATION,
    NO_BATCHES,
    NO_FILES,
    NO_REPORTS,
    client_of,
    services_of,
)
from tests.api.test_body_errors import GOOD
from tests.api.test_replies import STREAMED, read_events, text_of
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, fake_manifest, fake_model, says
from tests.live import live_server
from tests.upstream.services import ScriptedService, sse
from tests.upstream.test_openai import END, TOLD, chunk

EVERY: frozenset[Reason] = frozenset({"overloaded", "too_long", "engine_failed", "loading"})
SWITCHED = {"hokku-model": "other", "hokku-fallback": "overloaded"}


@pytest.fixture
def other() -> Iterator[FakeEngine]:
    engine = FakeEngine(says("from the other"))
    yield engine
    engine.close()


def services(engine: FakeEngine, other: FakeEngine, upstream: Upstream | None = None) -> Services:
    """A model that falls back to another of this process, or to a service."""
    target = UpstreamTarget("https://a.example", "openai", "theirs") if upstream else LocalTarget("other")
    manifest = replace(fake_manifest(), fallback=Fallback(target, EVERY, (), "here"))
    catalogue = Catalogue([manifest, fake_manifest("other")], {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine, manifest))
    catalogue.put(fake_model(other, fake_manifest("other")))
    upstreams = {MODEL_ID: upstream} if upstream else {}
    messages = FallbackService(MessagesService(catalogue), catalogue, upstreams)
    readiness = Readiness(catalogue, Drain())
    return Services(
        messages,
        catalogue,
        KeyRing([hash_key(KEY)]),
        NO_REPORTS,
        NO_ADMINISTRATION,
        NO_BATCHES,
        readiness,
        NO_FILES,
    )


def ours(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("hokku-")}


@pytest.mark.parametrize("compatibility", Compatibility)
async def test_the_response_says_which_model_answered(
    engine: FakeEngine, other: FakeEngine, compatibility: Compatibility
) -> None:
    engine.max_requests = 0
    async with client_of(services(engine, other), ApiConfig(compatibility)) as client:
        whole = await client.post("/v1/messages", json=GOOD)
        streamed = await client.post("/v1/messages", json=STREAMED)
        engine.max_requests = 10
        own = await client.post("/v1/messages", json=GOOD)
    assert (ours(whole), ours(streamed), ours(own)) == (SWITCHED, SWITCHED, {})
    events = read_events(streamed.text)
    assert whole.json()["model"] == events[0]["message"]["model"] == "other"
    assert whole.json()["content"][0]["text"] == "from the o"  # max_tokens of 10
    assert text_of(events) == "from the other"
    assert own.json()["model"] == MODEL_ID


async def test_so_does_a_completion(engine: FakeEngine, other: FakeEngine) -> None:
    engine.max_requests = 0
    body = {"model": ALIAS, "prompt": "\n\nHuman: Hi\n\nAssistant:", "max_tokens_to_sample": 50}
    async with client_of(services(engine, other)) as client:
        response = await client.post("/v1/complete", json=body)
    assert (response.json()["model"], ours(response)) == ("other", SWITCHED)


async def test_a_client_may_say_none(engine: FakeEngine, other: FakeEngine) -> None:
    engine.max_requests = 0
    async with client_of(services(engine, other)) as client:
        refused = await client.post("/v1/messages", json=GOOD, headers={"hokku-fallback": "none"})
        wrong = await client.post("/v1/messages", json=GOOD, headers={"hokku-fallback": "perhaps"})
    assert (refused.status_code, ours(refused)) == (529, {})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"] == 'hokku-fallback: may only be "none"'


@pytest.mark.parametrize("body", [GOOD, STREAMED])
async def test_a_model_that_fails_at_once_is_replaced_before_the_headers(
    engine: FakeEngine, other: FakeEngine, body: dict[str, Any]
) -> None:
    engine.script = lambda _request: Script([], EngineFailed("broken"), error_after=-1)
    async with client_of(services(engine, other)) as client:
        response = await client.post("/v1/messages", json=body)
    assert (response.status_code, ours(response)) == (200, SWITCHED | {"hokku-fallback": "engine_failed"})


async def test_a_stream_never_changes_its_model(engine: FakeEngine, other: FakeEngine) -> None:
    engine.script = lambda _request: Script(b"abc", EngineFailed("broken"), error_after=2)
    async with client_of(services(engine, other)) as client:
        response = await client.post("/v1/messages", json=STREAMED)
    events = read_events(response.text)
    assert (ours(response), events[0]["message"]["model"], text_of(events)) == ({}, MODEL_ID, "ab")
    assert events[-1]["error"] == {"type": "api_error", "message": "Internal server error"}
    assert not other.requests


@pytest.mark.parametrize("body", [GOOD, STREAMED])
async def test_where_both_fail_the_named_model_s_error_is_told(
    engine: FakeEngine, other: FakeEngine, body: dict[str, Any]
) -> None:
    engine.max_requests = other.max_requests = 0
    async with client_of(services(engine, other)) as client:
        response = await client.post("/v1/messages", json=body)
    assert (response.status_code, response.json()["error"]["type"], ours(response)) == (
        529,
        "overloaded_error",
        {},
    )


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidRequest("Bad tools"), 400, "Bad tools"),
        (UpstreamFailed("the service refused this server's key"), 500, "Internal server error"),
    ],
)
async def test_the_other_s_own_errors(
    engine: FakeEngine, other: FakeEngine, error: Exception, status: int, message: str
) -> None:
    class Broken(Upstream):
        async def reply(self, request: object) -> Any:
            raise error

    broken = Broken(FORMS["openai"](), UpstreamConfig("https://a.example", "theirs"))
    long = GOOD | {"messages": [{"role": "user", "content": "x" * 2_000}]}
    async with client_of(services(engine, other, broken)) as client:
        response = await client.post("/v1/messages", json=long)
    await broken.close()
    expected = (400, "prompt is too long: 2007 tokens > 1000 maximum") if status == 500 else (status, message)
    assert (response.status_code, response.json()["error"]["message"]) == expected


async def test_a_server_that_names_itself_asks_itself_once(engine: FakeEngine, other: FakeEngine) -> None:
    class Itself(Upstream):
        num_asked = 0

        async def reply(self, request: Any) -> Any:
            self.num_asked += 1
            return await upstream.reply(request)

        async def close(self) -> None:
            await upstream.close()

    engine.max_requests = 0
    itself = Itself(FORMS["anthropic"](), UpstreamConfig("", ""))
    with live_server(create_app(services(engine, other, itself), ApiConfig(), [itself.close])) as url:
        upstream = Upstream(FORMS["anthropic"](), UpstreamConfig(url, MODEL_ID, KEY))
        async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
            response = await client.post("/v1/messages", json=GOOD)
    assert (response.status_code, itself.num_asked) == (529, 1)


async def test_browsers_may_see_the_headers(engine: FakeEngine) -> None:
    async with client_of(services_of(engine)) as client:
        response = await client.get("/healthz", headers=HEADERS)
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"hokku-model", "hokku-fallback"} < set(exposed)


async def test_connections_are_closed_with_the_server(engine: FakeEngine) -> None:
    closed = []

    async def close() -> None:
        closed.append(True)

    app = create_app(services_of(engine), ApiConfig(), [close])
    async with app.router.lifespan_context(app):
        assert not closed
    assert closed


@pytest.mark.clients
def test_the_official_client_sees_who_answered(engine: FakeEngine, other: FakeEngine) -> None:
    engine.max_requests = 0
    service = ScriptedService([sse(chunk(content="Hello"), chunk(finish="stop"), TOLD, END)])
    with service.live() as elsewhere:
        upstream = Upstream(FORMS["openai"](), UpstreamConfig(elsewhere, "theirs"))
        app = create_app(services(engine, other, upstream), ApiConfig(), [upstream.close])
        with live_server(app) as url, Anthropic(base_url=url, api_key=KEY, max_retries=0) as client:
            question: dict[str, Any] = {
                "model": ALIAS,
                "max_tokens": 50,
                "messages": [{"role": "user", "content": "Hi"}],
            }
            raw = client.messages.with_raw_response.create(**question)
            with client.messages.stream(**question) as stream:
                text, message = "".join(stream.text_stream), stream.get_final_message()
    assert (raw.headers["hokku-model"], raw.headers["hokku-fallback"]) == ("m-2", "overloaded")
    assert raw.parse().model == message.model == "m-2"
    assert text == "Hello"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (4, 5)
    assert message.usage.output_tokens == 4
    assert service.asked[0][2]["messages"] == [{"role": "user", "content": "Hi"}]
