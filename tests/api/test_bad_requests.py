"""The same bad requests on every wire: each is answered in that wire's own words, and booked to whoever has asked."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.api.bedrock.errors import NAMESPACE
from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.protocol.errors import EngineFailed, HokkuError, Overloaded
from hokku.protocol.records import ApiKey, LedgerEntry, LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.service.booking import BookedReplies
from hokku.service.draining import Drain, DrainingReplies
from hokku.service.key_making import new_key, new_workspace
from hokku.service.keys import KeyRing, hash_key
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.rate_limits import RateLimits
from hokku.storage.storage import Storage
from tests.api.bedrock.conftest import frames
from tests.api.conftest import services_of
from tests.api.test_replies import read_events
from tests.fakes import ALIAS, FakeEngine, Script
from tests.service.test_booking import Book
from tests.service.test_rate_limits import Rules

Json = dict[str, Any]
Said = tuple[int, str]  # a status and the wire's word
CONFIG = ApiConfig(max_body_bytes=20_000)
HI = [{"role": "user", "content": "Hi"}]
HI_BLOCKS = [{"role": "user", "content": [{"text": "Hi"}]}]
GOOGLE = "/v1/projects/p/locations/global/publishers/anthropic/models/claude-3-5-haiku@20241022"
AMAZON = "/model/us.anthropic.claude-3-5-haiku-20241022-v1:0"

# What is wrong, in no wire's words, and how each wire says it.
VENDOR: dict[str, Said] = {
    "invalid": (400, "invalid_request_error"),
    "wrong method": (405, "invalid_request_error"),
    "too large": (413, "request_too_large"),
    "no key": (401, "authentication_error"),
    "wrong key": (401, "authentication_error"),
    "unknown model": (404, "not_found_error"),
    "unknown path": (404, "not_found_error"),
    "limited": (429, "rate_limit_error"),
    "loading": (529, "overloaded_error"),
    "overloaded": (529, "overloaded_error"),
    "failed": (500, "api_error"),
}
VERTEX = VENDOR | {
    "no key": (401, "UNAUTHENTICATED"),
    "wrong key": (401, "UNAUTHENTICATED"),
    "unknown model": (404, "NOT_FOUND"),
    "unknown path": (404, "NOT_FOUND"),
    "limited": (429, "RESOURCE_EXHAUSTED"),
}
BEDROCK: dict[str, Said] = {
    "invalid": (400, "ValidationException"),
    "wrong method": (405, "ValidationException"),
    "too large": (413, "RequestEntityTooLargeException"),
    "no key": (403, "MissingAuthenticationTokenException"),
    "wrong key": (403, "AccessDeniedException"),
    "unknown model": (400, "ValidationException"),
    "unknown path": (404, "ResourceNotFoundException"),
    "limited": (429, "ThrottlingException"),
    "loading": (429, "ModelNotReadyException"),
    "overloaded": (503, "ServiceUnavailableException"),
    "failed": (500, "InternalServerException"),
}


def told_by_vendor(response: httpx.Response) -> str:
    """The envelope's word, of an answer that is one."""
    body = response.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert (body["type"], body["request_id"]) == ("error", response.headers["request-id"])
    assert {"type", "message"} <= body["error"].keys() <= {"type", "message", "details"}
    return checked(body["error"], "type")


def told_by_vertex(response: httpx.Response) -> str:
    """Google's word, or the envelope's."""
    assert response.headers["request-id"].startswith("req_vrtx_")
    body = response.json()
    if body.keys() != {"error"}:
        return told_by_vendor(response)
    assert body["error"].keys() == {"code", "message", "status"}
    assert body["error"]["code"] == response.status_code
    return checked(body["error"], "status")


def told_by_openai(response: httpx.Response) -> str:
    """The type of this form's error."""
    body = response.json()
    assert body.keys() == {"error", "request_id"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["request_id"] == response.headers["x-request-id"]
    return checked(body["error"], "type")


def told_by_bedrock(response: httpx.Response) -> str:
    """The exception's name."""
    name, _, rest = response.headers["x-amzn-errortype"].partition(":")
    assert rest == NAMESPACE
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", response.headers["x-amzn-requestid"])
    assert response.json().keys() == {"message"}
    return checked({"name": name, **response.json()}, "name")


def checked(error: Json, key: str) -> str:
    """A wire's word, beside a sentence."""
    assert isinstance(error["message"], str)
    assert error["message"]
    return str(error[key])


def ends_in_events(response: httpx.Response) -> str:
    """The word in the last of server-sent events."""
    last = read_events(response.text)[-1]
    assert last["type"] == "error"
    return str(last["error"]["type"])


def ends_in_chunks(response: httpx.Response) -> str:
    """The word in the last chunk, behind which nothing is done."""
    assert "[DONE]" not in response.text
    *_, last, rest = response.text.split("\n\n")
    assert rest == ""
    return str(json.loads(last.removeprefix("data: "))["error"]["type"])


def ends_in_frames(response: httpx.Response) -> str:
    """The name in the last frame."""
    *_, (headers, payload) = frames(response.content)
    assert headers[":message-type"] == "exception"
    assert payload["message"]
    return headers[":exception-type"]


@dataclass(frozen=True)
class Way:
    """An endpoint, a good body for it, and how its wire speaks of failures."""

    path: str
    body: Json
    words: dict[str, Said]
    told: Callable[[httpx.Response], str]
    end: Callable[[httpx.Response], str] | None = None  # of a stream that cannot go on
    broken: str = "api_error"  # the word there
    prompt: str = "messages"
    id_header: str = "request-id"
    empty: Any = field(default_factory=list)
    may_be_warmed: bool = False  # asks for no token at all

    def with_limit(self, num_tokens: int) -> Json:
        """The body with another limit."""
        if "inferenceConfig" in self.body:
            return self.body | {"inferenceConfig": {"maxTokens": num_tokens}}
        return self.body | {"max_tokens": num_tokens}

    def elsewhere(self) -> tuple[str, Json]:
        """Path and body of the same for a model that nobody has."""
        if "model" in self.body:
            return self.path, self.body | {"model": "claude-foo"}
        return re.sub(r"claude-3-5-haiku[@-]20241022", "claude-foo", self.path), self.body


ASKED: Json = {"model": ALIAS, "max_tokens": 20, "messages": HI}
PREDICTED: Json = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 20, "messages": HI}
INVOKED: Json = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 20, "messages": HI}
CONVERSED: Json = {"messages": HI_BLOCKS, "inferenceConfig": {"maxTokens": 20}}
TEXT: Json = {"model": ALIAS, "max_tokens": 20, "prompt": "Hi"}
STREAMED: Json = {"stream": True}
OF_AMAZON: Json = {"id_header": "x-amzn-requestid", "broken": "modelStreamErrorException"}
CHAT, TEXTS = "/v1/chat/completions", "/v1/completions"
WAYS = {
    "anthropic": Way("/v1/messages", ASKED, VENDOR, told_by_vendor, may_be_warmed=True),
    "anthropic, streamed": Way("/v1/messages", ASKED | STREAMED, VENDOR, told_by_vendor, ends_in_events),
    "vertex": Way(f"{GOOGLE}:rawPredict", PREDICTED, VERTEX, told_by_vertex, may_be_warmed=True),
    "vertex, streamed": Way(
        f"{GOOGLE}:streamRawPredict", PREDICTED | STREAMED, VERTEX, told_by_vertex, ends_in_events
    ),
    "invoke": Way(f"{AMAZON}/invoke", INVOKED, BEDROCK, told_by_bedrock, **OF_AMAZON, may_be_warmed=True),
    "invoke, streamed": Way(
        f"{AMAZON}/invoke-with-response-stream",
        INVOKED,
        BEDROCK,
        told_by_bedrock,
        ends_in_frames,
        **OF_AMAZON,
    ),
    "converse": Way(f"{AMAZON}/converse", CONVERSED, BEDROCK, told_by_bedrock, **OF_AMAZON),
    "converse, streamed": Way(
        f"{AMAZON}/converse-stream", CONVERSED, BEDROCK, told_by_bedrock, ends_in_frames, **OF_AMAZON
    ),
    "chat": Way(CHAT, ASKED, VENDOR, told_by_openai),
    "chat, streamed": Way(CHAT, ASKED | STREAMED, VENDOR, told_by_openai, ends_in_chunks),
    "text": Way(TEXTS, TEXT, VENDOR, told_by_openai, prompt="prompt", may_be_warmed=True),
    "text, streamed": Way(
        TEXTS,
        TEXT | STREAMED,
        VENDOR,
        told_by_openai,
        ends_in_chunks,
        prompt="prompt",
        may_be_warmed=True,
    ),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@dataclass
class House:
    """A server behind limits and a ledger, and somebody's key in a workspace of its own."""

    services: Services
    secret: str
    key: ApiKey
    book: Book
    drain: Drain
    rules: list[LimitRule]

    def client(self, services: Services | None = None) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        headers = {
            "authorization": f"Bearer {self.secret}",
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
        }
        transport = httpx.ASGITransport(create_app(services or self.services, CONFIG))
        return httpx.AsyncClient(transport=transport, base_url="http://hokku", headers=headers)

    def row(self) -> LedgerEntry:
        """The only one, which is the key's own."""
        (entry,) = self.book.entries
        assert (entry.workspace_id, entry.key_id) == (self.key.workspace_id, self.key.id)
        return entry


@pytest.fixture
def house(engine: FakeEngine, tmp_path: Path) -> Iterator[House]:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    workspace = new_workspace("web")
    storage.keys.add_workspace(workspace)
    secret, key = new_key("web", workspace.id, "user")
    storage.keys.add_key(key, hash_key(secret))
    services, book, drain, rules = services_of(engine), Book(), Drain(), Rules()
    manifest_of = services.catalogue.manifest
    booked = BookedReplies(MessagesService(services.catalogue), book, manifest_of)
    limits = RateLimits(rules, LocalBuckets(lambda: 0), "org")
    limited = LimitedReplies(booked, limits, manifest_of)
    services = replace(
        services, messages=DrainingReplies(limited, drain), keys=KeyRing([], storage), book=book.book
    )
    yield House(services, secret, key, book, drain, rules.rules())
    storage.close()


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with house.client() as client:
        yield client


def is_told(response: httpx.Response, way: Way, kind: str) -> None:
    """Whether it is answered as this wire answers what is wrong in this way, and nothing else shows."""
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, way.told(response)) == way.words[kind], response.text
    assert "Traceback" not in response.text
    assert "secret" not in response.text


async def test_a_good_request_is_a_row(client: httpx.AsyncClient, house: House, way: Way) -> None:
    response = await client.post(way.path, json=way.body)
    assert response.status_code == 200, response.text
    row = house.row()
    assert (row.outcome, row.request_id) == ("succeeded", response.headers[way.id_header])
    assert row.tokens["input"] > 0
    assert row.tokens["output"] == len("Hello, world!") + 1


BYTES = {
    "no body": b"",
    "cut off": b'{"messages":',
    "no object": b"[]",
    "no UTF-8": b'{"\xff":1}',
    "not a number": b'{"max_tokens":NaN}',
    "half a character": b'{"system":"\\ud800"}',
    "too deep": b'{"messages":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    "too many digits": b'{"max_tokens":' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("name", BYTES)
async def test_bytes_that_are_no_body(client: httpx.AsyncClient, house: House, way: Way, name: str) -> None:
    response = await client.post(way.path, content=BYTES[name])
    is_told(response, way, "invalid")
    row = house.row()
    assert (row.outcome, row.tokens, row.request_id) == ("errored", {}, response.headers[way.id_header])


BODIES: dict[str, Callable[[Way], Json]] = {
    "an unknown field": lambda way: way.body | {"bogus": 1},
    "no prompt": lambda way: {key: value for key, value in way.body.items() if key != way.prompt},
    "a prompt of the wrong type": lambda way: way.body | {way.prompt: 7},
    "an empty prompt": lambda way: way.body | {way.prompt: way.empty},
    "a limit below any": lambda way: way.with_limit(-1),
    "a limit above the model's": lambda way: way.with_limit(9_000),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bodies_that_are_refused(client: httpx.AsyncClient, house: House, way: Way, name: str) -> None:
    is_told(await client.post(way.path, json=BODIES[name](way)), way, "invalid")
    assert house.row().outcome == "errored"


async def test_a_limit_of_nothing(client: httpx.AsyncClient, house: House, way: Way) -> None:
    response = await client.post(way.path, json=way.with_limit(0))
    if way.may_be_warmed:
        assert response.status_code == 200
        assert not house.row().tokens["output"]
    else:
        is_told(response, way, "invalid")
        assert house.row().outcome == "errored"


async def test_too_large(client: httpx.AsyncClient, house: House, way: Way) -> None:
    is_told(await client.post(way.path, json=way.body | {"x": "x" * CONFIG.max_body_bytes}), way, "too large")
    assert house.row().outcome == "errored"


async def test_an_unknown_model(client: httpx.AsyncClient, house: House, way: Way) -> None:
    path, body = way.elsewhere()
    is_told(await client.post(path, json=body), way, "unknown model")
    assert house.row().outcome == "errored"


async def test_paths_and_methods(client: httpx.AsyncClient, house: House, way: Way) -> None:
    is_told(await client.get(way.path), way, "wrong method")
    is_told(await client.post(f"{way.path}/more", json=way.body), way, "unknown path")
    assert not house.book.entries


@pytest.mark.parametrize(
    ("authorization", "kind"), [(None, "no key"), ("Basic eDp5", "no key"), ("Bearer x", "wrong key")]
)
async def test_strangers(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    house: House,
    way: Way,
    authorization: str | None,
    kind: str,
) -> None:
    del client.headers["authorization"]
    headers = {"authorization": authorization} if authorization else {}
    is_told(await client.post(way.path, json=way.body, headers=headers), way, kind)
    is_told(await client.post(way.path, content=b"{", headers=headers), way, kind)  # whatever they say
    assert not house.book.entries
    assert not engine.requests


async def test_a_limit_that_is_reached(client: httpx.AsyncClient, house: House, way: Way) -> None:
    house.rules.append(LimitRule(None, None, requests_per_minute=1))
    assert (await client.post(way.path, json=way.body)).status_code == 200
    refused = await client.post(way.path, json=way.body)
    is_told(refused, way, "limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert house.row().outcome == "succeeded"


async def test_a_server_that_is_about_to_end(client: httpx.AsyncClient, house: House, way: Way) -> None:
    house.drain.begin()
    refused = await client.post(way.path, json=way.body)
    is_told(refused, way, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert not house.book.entries


async def test_a_model_that_is_still_loading(house: House, way: Way) -> None:
    loading = replace(services_of(None), keys=house.services.keys)
    async with house.client(loading) as client:
        is_told(await client.post(way.path, json=way.body), way, "loading")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineFailed("a secret"), "failed"),
        (Overloaded("Overloaded"), "overloaded"),
        (Exception("a secret"), "failed"),
    ],
)
async def test_a_failure_before_the_first_token(
    client: httpx.AsyncClient, engine: FakeEngine, house: House, way: Way, error: Any, kind: str
) -> None:
    engine.script = lambda _request: Script([], error, error_after=-1)
    is_told(await client.post(way.path, json=way.body), way, kind)
    assert (house.row().outcome, any(house.row().tokens.values())) == ("errored", False)


@pytest.mark.parametrize("error", [EngineFailed("a secret"), Overloaded("Overloaded")])
async def test_a_failure_in_the_middle(
    client: httpx.AsyncClient, engine: FakeEngine, house: House, way: Way, error: HokkuError
) -> None:
    engine.script = lambda _request: Script([*b"Hello"], error, error_after=3)
    response = await client.post(way.path, json=way.body)
    is_overload = isinstance(error, Overloaded)
    if way.end is None:
        is_told(response, way, "overloaded" if is_overload else "failed")
    else:
        overloaded = way.words["overloaded"][1]
        assert response.status_code == 200
        assert way.end(response) == (overloaded[0].lower() + overloaded[1:] if is_overload else way.broken)
        assert "secret" not in response.text
    assert house.row().outcome == "errored"
