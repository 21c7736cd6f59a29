"""Message Batches on the wire, over a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from hokku.api.anthropic.batch_body import BatchReader
from hokku.api.config import ApiConfig
from hokku.protocol.engine import Priority
from hokku.protocol.errors import EngineFailed, InvalidRequest, RequestTooLarge
from hokku.protocol.records import Workspace
from hokku.service.key_making import new_key
from hokku.service.keys import hash_key
from hokku.storage.schema import ledger
from tests.api.conftest import HEADERS, client_of
from tests.batches import BatchHouse, a_request, batch_house
from tests.fakes import FakeEngine, Script

BATCHES = "/v1/messages/batches"


@pytest.fixture
def house(engine: FakeEngine, tmp_path: Path) -> Iterator[BatchHouse]:
    with batch_house(engine, tmp_path) as house:
        yield house


@pytest.fixture
async def client(house: BatchHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(house.services) as client:
        yield client


async def create(client: httpx.AsyncClient, *requests: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(BATCHES, json={"requests": list(requests)})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


async def ended(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    for _ in range(1000):
        batch: dict[str, Any] = (await client.get(f"{BATCHES}/{batch_id}")).json()
        if batch["processing_status"] == "ended":
            return batch
        await asyncio.sleep(0.02)
    raise AssertionError("the batch never ended")


async def results(client: httpx.AsyncClient, batch: dict[str, Any]) -> dict[str, dict[str, Any]]:
    response = await client.get(batch["results_url"])
    assert response.headers["content-type"].startswith("application/x-jsonl")
    lines = [json.loads(line) for line in response.text.splitlines()]
    return {line["custom_id"]: line["result"] for line in lines}


async def refusal(client: httpx.AsyncClient, body: Any, status: int = 400) -> str:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post(BATCHES, content=content)
    assert response.status_code == status, response.text
    message: str = response.json()["error"]["message"]
    return message


async def test_a_batch_s_life(client: httpx.AsyncClient, house: BatchHouse, engine: FakeEngine) -> None:
    response = await client.post(BATCHES, json={"requests": [a_request("a"), a_request("b", max_tokens=3)]})
    made = response.json()
    assert made["id"].startswith("msgbatch_01")
    assert (made["type"], made["processing_status"]) == ("message_batch", "in_progress")
    assert made["request_counts"] == {
        "processing": 2,
        "succeeded": 0,
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    }
    for name in ("ended_at", "archived_at", "cancel_initiated_at", "results_url"):
        assert made[name] is None
    assert len(made["created_at"]) == len("2024-09-24T18:37:24.100435Z")
    assert (response.headers["retry-after"], response.headers["anthropic-workspace-id"]) == (
        "10",
        "wrkspc_default",
    )
    path = f"{BATCHES}/{made['id']}"
    early = await client.get(f"{path}/results")
    assert early.status_code == 404
    assert early.json()["error"]["message"] == f"Message Batch {made['id']} has no available results."
    early = await client.delete(path)
    assert early.status_code == 400
    assert early.json()["error"]["message"].startswith("In progress batches cannot be deleted.")

    house.runner.start()
    batch = await ended(client, made["id"])
    assert batch["request_counts"]["succeeded"] == 2
    assert batch["results_url"] == f"http://hokku{path}/results"
    assert "retry-after" not in (await client.get(path)).headers
    found = await results(client, batch)
    message = found["a"]["message"]
    assert (message["content"][0]["text"], message["stop_reason"]) == ("Hello, world!", "end_turn")
    assert (message["usage"]["service_tier"], message["usage"]["output_tokens"]) == ("batch", 14)
    assert found["b"]["message"]["stop_reason"] == "max_tokens"
    assert {request.priority for request in engine.requests} == {Priority.BATCH}
    deleted = await client.delete(path)
    assert deleted.json() == {"id": made["id"], "type": "message_batch_deleted"}
    for gone in (await client.get(path), await client.get(f"{path}/results"), await client.delete(path)):
        assert gone.status_code == 404
        assert gone.json()["error"]["message"] == f"Message Batch {made['id']} not found."
    assert list(house.blobs.entries()) == []


async def test_each_request_is_validated_as_messages_would(
    client: httpx.AsyncClient, house: BatchHouse, engine: FakeEngine
) -> None:
    plain = engine.script
    engine.script = lambda request: (
        Script([], EngineFailed("broke"), 0) if b"break" in bytes(request.prompt) else plain(request)
    )
    house.runner.start()
    made = await create(
        client,
        a_request("good"),
        a_request("streams", stream=True),
        a_request("nothing", max_tokens=0),
        a_request("fast", speed="fast"),
        a_request("unknown", model="claude-foo"),
        a_request("hot", temperature=3),
        a_request("long", "x" * 2000),
        a_request("breaks", "break"),
        {"custom_id": "empty", "params": {}},
    )
    batch = await ended(client, made["id"])
    assert batch["request_counts"] == {
        "processing": 0,
        "succeeded": 1,
        "errored": 8,
        "canceled": 0,
        "expired": 0,
    }
    found = await results(client, batch)
    said = {name: each["error"] for name, each in found.items() if each["type"] == "errored"}
    messages = {name: each["error"]["message"] for name, each in said.items()}
    assert messages["streams"] == '"stream=True" is not supported in the Message Batches API'
    assert messages["nothing"] == "max_tokens: must be greater than or equal to 1"
    assert messages["fast"] == "speed: Extra inputs are not permitted"
    assert messages["unknown"] == "model: claude-foo"
    assert said["unknown"]["error"]["type"] == "not_found_error"
    assert messages["hot"].startswith("temperature:")
    assert messages["long"].startswith("prompt is too long")
    assert messages["empty"] == "model: Field required"
    assert said["breaks"]["error"] == {"type": "api_error", "message": "Internal server error"}
    assert said["breaks"].pop("request_id").startswith("workerreq_")
    assert {each.get("request_id") for each in said.values()} == {None}
    assert {each["type"] for each in said.values()} == {"error"}


async def test_canceling(client: httpx.AsyncClient, house: BatchHouse, engine: FakeEngine) -> None:
    made = await create(client, *(a_request(f"r{number}") for number in range(20)))
    canceled = await client.post(f"{BATCHES}/{made['id']}/cancel")
    assert canceled.json()["processing_status"] == "canceling"
    assert canceled.json()["cancel_initiated_at"]
    house.runner.start()
    batch = await ended(client, made["id"])
    assert batch["request_counts"]["canceled"] == 20
    assert {json.dumps(each) for each in (await results(client, batch)).values()} == {'{"type": "canceled"}'}
    again = await client.post(f"{BATCHES}/{made['id']}/cancel")
    assert (again.status_code, again.json()["processing_status"]) == (200, "ended")
    assert engine.requests == []


async def test_pages(client: httpx.AsyncClient) -> None:
    empty = (await client.get(BATCHES)).json()
    assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    ids = [(await create(client, a_request("a")))["id"] for _ in range(3)][::-1]
    page = (await client.get(BATCHES, params={"limit": 2, "beta": "true"})).json()
    assert [batch["id"] for batch in page["data"]] == ids[:2]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, ids[0], ids[1])
    page = (await client.get(BATCHES, params={"after_id": ids[1]})).json()
    assert ([batch["id"] for batch in page["data"]], page["has_more"]) == (ids[2:], False)
    page = (await client.get(BATCHES, params={"before_id": ids[2], "limit": 1})).json()
    assert ([batch["id"] for batch in page["data"]], page["has_more"]) == (ids[1:2], True)
    for query in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"after_id": "msgbatch_x"}):
        response = await client.get(BATCHES, params=query)
        assert response.status_code == 400, query


async def test_requests_that_begin_alike_are_worked_off_together(
    client: httpx.AsyncClient, house: BatchHouse, engine: FakeEngine
) -> None:
    prompts = ["First rule. " * 30, "Second rule. " * 30]
    await create(client, *(a_request(f"r{number}", system=prompts[number % 2]) for number in range(20)))
    house.runner.start()
    while len(engine.requests) < 20:
        await asyncio.sleep(0.01)
    order = [b"First" in bytes(request.prompt) for request in engine.requests]
    # Eight run side by side, so neighbours may overtake each other where the two kinds meet, and nowhere else.
    assert order[:2] != order[-2:]
    assert len({*order[:2]}) == len({*order[-2:]}) == 1


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "requests: List should have at least 1 item after validation, not 0"),
        ({}, "requests: Input should be a valid list"),
        ([7], "requests.0: Input should be an object"),
        ([{"params": {}}], "requests.0.custom_id: Field required"),
        ([{"custom_id": 7, "params": {}}], "requests.0.custom_id: Input should be a valid string"),
        (
            [{"custom_id": "x" * 65, "params": {}}],
            "requests.0.custom_id: String should have at most 64 characters",
        ),
        (
            [a_request("ok"), {"custom_id": "a b", "params": {}}],
            "requests.1.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        (
            [{"custom_id": "", "params": {}}],
            "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        ([{"custom_id": "a"}], "requests.0.params: Field required"),
        ([{"custom_id": "a", "params": []}], "requests.0.params: Input should be an object"),
        ([{"custom_id": "a", "params": {}, "x": 1}], "requests.0.x: Extra inputs are not permitted"),
        (
            [a_request("dup"), a_request("b"), a_request("dup")],
            "requests: custom_id's must be unique within a batch. Duplicate custom_id found: dup",
        ),
    ],
)
async def test_the_envelope_is_checked_at_once(
    client: httpx.AsyncClient, house: BatchHouse, requests: Any, message: str
) -> None:
    assert await refusal(client, {"requests": requests}) == message
    assert list(house.blobs.entries()) == []
    assert (await client.get(BATCHES)).json()["data"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is not valid JSON"),
        (b"{}", "requests: Field required"),
        (b"[]", "Input should be an object"),
        (b'{"x": 1}', "x: Extra inputs are not permitted"),
        (b'{"requests": [{"custom_id": "a", "params": {}}]', "is not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params": {}}', "is not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params"', "is not valid JSON"),
        (b'{"requests": [{"custom_id": "a", "params": {}},]}', "Expecting value: line 1 column 48 (char 47)"),
        (b'{"requests": [{"custom_id": "a", "params": {}}]} x', "Extra data"),
        (b'{"requests": [{"custom_id": "a", "params": NaN}]}', "NaN is no JSON value"),
        (b'{"requests": [{"custom_id": "a", "params": {"x": "\\ud800"}}]}', "no low surrogate"),
        (b'{"requests": [{"custom_id": "\xff"}]}', "invalid UTF-8"),
        (b'{"requests": ' + b"[" * 100_000, "nesting is too deep"),
    ],
)
async def test_what_is_no_batch(client: httpx.AsyncClient, body: bytes, message: str) -> None:
    assert message in await refusal(client, body)


async def test_too_large(house: BatchHouse) -> None:
    config = ApiConfig(max_batch_bytes=5000, max_body_bytes=2000)
    async with client_of(house.services, config) as client:
        sentence = "Request exceeds the maximum allowed number of bytes."
        assert await refusal(client, {"requests": [a_request("a", "x" * 3000)]}, 413) == sentence
        many = {"requests": [a_request(f"r{number}", "x" * 500) for number in range(10)]}
        assert await refusal(client, many, 413) == sentence
        packed = gzip.compress(json.dumps(many).encode())
        response = await client.post(BATCHES, content=packed, headers={"content-encoding": "gzip"})
        assert response.json()["error"]["details"]["error_code"] == "request_body_too_large_after_decoding"
    assert list(house.blobs.entries()) == []


async def test_gzip(client: httpx.AsyncClient) -> None:
    body = gzip.compress(json.dumps({"requests": [a_request("a")]}).encode())
    response = await client.post(BATCHES, content=body, headers={"content-encoding": "gzip"})
    assert response.json()["request_counts"]["processing"] == 1
    for broken in (body[:-9], b"not gzip", body + b"x"):
        response = await client.post(BATCHES, content=broken, headers={"content-encoding": "gzip"})
        assert response.json()["error"]["details"]["error_code"] == "request_body_encoding_invalid"


async def test_the_results_url_is_where_the_client_came(client: httpx.AsyncClient, house: BatchHouse) -> None:
    house.runner.start()
    batch = await ended(client, (await create(client, a_request("a")))["id"])
    path = f"{BATCHES}/{batch['id']}"
    for headers, base in (
        (
            {"x-forwarded-proto": "https", "x-forwarded-host": "llm.example:8443, inner"},
            "https://llm.example:8443",
        ),
        ({"host": "10.0.0.1:8080"}, "http://10.0.0.1:8080"),
        ({"x-forwarded-host": "a b/c"}, ""),
    ):
        shown = (await client.get(path, headers=headers)).json()
        assert shown["results_url"] == f"{base}{path}/results"


async def test_of_another_workspace_there_is_nothing(client: httpx.AsyncClient, house: BatchHouse) -> None:
    house.runner.start()
    made = await ended(client, (await create(client, a_request("a")))["id"])
    secret, key = new_key("other", "wrkspc_2", "user", None)
    house.storage.keys.add_workspace(Workspace("wrkspc_2", "other", datetime.now(UTC)))
    house.storage.keys.add_key(key, hash_key(secret))
    path = f"{BATCHES}/{made['id']}"
    async with client_of(house.services) as other:
        other.headers = httpx.Headers(HEADERS | {"x-api-key": secret})
        assert (await other.get(BATCHES)).json()["data"] == []
        for method, where in (
            ("GET", path),
            ("GET", f"{path}/results"),
            ("POST", f"{path}/cancel"),
            ("DELETE", path),
        ):
            response = await other.request(method, where)
            assert response.status_code == 404, (method, where)
            assert response.json()["error"]["message"] == f"Message Batch {made['id']} not found."
        assert (await other.get(BATCHES, params={"after_id": made["id"]})).status_code == 400
    assert (await client.get(path)).status_code == 200


async def test_keys_come_first(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("POST", BATCHES),
        ("GET", BATCHES),
        ("GET", f"{BATCHES}/msgbatch_x"),
        ("GET", f"{BATCHES}/msgbatch_x/results"),
        ("POST", f"{BATCHES}/msgbatch_x/cancel"),
        ("DELETE", f"{BATCHES}/msgbatch_x"),
    ):
        response = await client.request(method, path, headers={"x-api-key": "wrong"})
        assert response.status_code == 401


async def test_the_ledger_has_each_request_once_at_half_price(
    client: httpx.AsyncClient, house: BatchHouse
) -> None:
    house.runner.start()
    made = await create(client, a_request("a"), a_request("b"), a_request("bad", temperature=9))
    batch = await ended(client, made["id"])
    used = [each["message"]["usage"] for each in (await results(client, batch)).values() if "message" in each]
    with house.storage.database.read() as connection:
        rows = connection.execute(select(ledger)).all()
    assert Counter((row.tier, row.outcome, row.batch_id) for row in rows) == {
        ("batch", "succeeded", made["id"]): 2,
        ("batch", "errored", made["id"]): 1,
    }
    assert sum(row.output_tokens for row in rows) == sum(usage["output_tokens"] for usage in used)
    assert sum(row.input_tokens for row in rows) == sum(usage["input_tokens"] for usage in used)


def read(body: bytes, sizes: list[int], most: int = 1 << 25) -> list[tuple[str, bytes]]:
    taken: list[tuple[str, bytes]] = []
    reader = BatchReader(lambda name, request, kinship: taken.append((name, request)), most)
    at = 0
    for size in sizes:
        reader.feed(body[at : at + size])
        at += size
    reader.feed(body[at:])
    reader.finish()
    return taken


texts = st.text(st.characters(codec="utf-8"), max_size=30)


@given(
    st.lists(
        st.dictionaries(texts, texts | st.floats(allow_nan=False, allow_infinity=False) | st.lists(texts)),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 50), max_size=12),
    st.booleans(),
)
def test_however_the_body_is_cut(params: list[Any], sizes: list[int], is_ascii: bool) -> None:
    requests = [{"custom_id": f"r{number}", "params": each} for number, each in enumerate(params)]
    body = json.dumps({"requests": requests}, ensure_ascii=is_ascii, indent=len(sizes) % 2 or None).encode()
    taken = read(body, sizes)
    assert [json.loads(request) for _, request in taken] == requests
    assert [name for name, _ in taken] == [f"r{number}" for number in range(len(params))]


@given(st.binary(max_size=60), st.lists(st.integers(0, 9), max_size=5), st.integers(0, 80))
def test_rubbish_is_refused(rubbish: bytes, sizes: list[int], at: int) -> None:
    body = b'{"requests": [{"custom_id": "a", "params": {"x": [1, 2.5e3, true, null, "\\u00fc"]}}]}'
    with contextlib.suppress(InvalidRequest):
        read(body[:at] + rubbish + body[at:], sizes)


def test_a_request_that_never_ends_is_not_kept_in_memory() -> None:
    reader = BatchReader(lambda *_: None, 10_000)
    reader.feed(b'{"requests": [{"custom_id": "a", "params": {"x": "')

    def feed_on() -> None:
        for _ in range(100):
            reader.feed(b"x" * 1000)

    with pytest.raises(RequestTooLarge):
        feed_on()
