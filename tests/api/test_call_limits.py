"""Limits of the endpoints beside Messages, and what a batch meets whose workspace has spent its money."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from hokku.protocol.records import DEFAULT_WORKSPACE_ID, LedgerEntry, LimitRule
from hokku.service.key_making import new_key, new_workspace
from hokku.service.keys import hash_key
from tests.api.conftest import HEADERS, client_of
from tests.api.test_body_errors import GOOD
from tests.batches import BatchHouse, a_request, batch_house, wait_until
from tests.fakes import FakeEngine

BATCHES = "/v1/messages/batches"
COUNT = "/v1/messages/count_tokens"
QUESTION = {"model": GOOD["model"], "messages": GOOD["messages"]}
SPENT = r"You have reached your specified workspace API usage limits\. You will regain access on \S+ at 00:00 UTC\."


@pytest.fixture
def house(engine: FakeEngine, tmp_path: Path) -> Iterator[BatchHouse]:
    with batch_house(engine, tmp_path) as house:
        yield house


@pytest.fixture
async def client(house: BatchHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(house.services) as client:
        yield client


def spend(house: BatchHouse, micro_cents: int) -> None:
    tokens = {"input": 1}
    house.storage.ledger.append(
        [
            LedgerEntry(
                datetime.now(UTC),
                "req_1",
                DEFAULT_WORKSPACE_ID,
                None,
                "haiku",
                "standard",
                "succeeded",
                tokens,  # type: ignore[arg-type]
                {"input": micro_cents},
            )
        ]
    )


@pytest.mark.parametrize(
    ("rule", "method", "path", "words"),
    [
        (LimitRule(None, None, batch_calls_per_minute=2), "GET", BATCHES, "2 Message Batches requests"),
        (LimitRule(None, None, batch_calls_per_minute=2), "POST", BATCHES, "2 Message Batches requests"),
        (LimitRule(None, None, file_calls_per_minute=2), "GET", "/v1/files", "2 Files requests"),
        (LimitRule(None, None, count_calls_per_minute=2), "POST", COUNT, "2 token counting requests"),
    ],
)
async def test_each_group_has_a_bucket_of_its_own(
    house: BatchHouse, client: httpx.AsyncClient, rule: LimitRule, method: str, path: str, words: str
) -> None:
    house.storage.limits.put(rule)
    body = {BATCHES: {"requests": [a_request("a")]}, COUNT: QUESTION}.get(path)
    for remaining in ("1", "0"):
        let_in = await client.request(method, path, json=body)
        assert let_in.status_code == 200, let_in.text
        assert let_in.headers["anthropic-ratelimit-requests-limit"] == "2"
        assert let_in.headers["anthropic-ratelimit-requests-remaining"] == remaining
    refused = await client.request(method, path, json=body)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert f"your organization's rate limit of {words} per minute (org: org)" in refused.text
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
    for other in {BATCHES, "/v1/files"} - {path}:
        assert (await client.get(other)).status_code == 200
    assert (await client.post("/v1/messages", json=GOOD)).status_code == 200


async def test_all_endpoints_of_batches_share_one_bucket(
    house: BatchHouse, client: httpx.AsyncClient
) -> None:
    house.storage.limits.put(LimitRule(DEFAULT_WORKSPACE_ID, None, batch_calls_per_minute=4))
    one = f"{BATCHES}/msgbatch_x"
    calls = [("GET", one), ("DELETE", one), ("POST", f"{one}/cancel"), ("GET", f"{one}/results")]
    for method, path in calls:
        assert (await client.request(method, path)).status_code == 404
    for method, path in [*calls, ("POST", BATCHES), ("GET", BATCHES)]:
        refused = await client.request(method, path)
        assert refused.status_code == 429
        assert "your workspace's rate limit" in refused.text


async def test_two_hundred_calls_at_once(house: BatchHouse, client: httpx.AsyncClient) -> None:
    house.storage.limits.put(LimitRule(None, None, count_calls_per_minute=30))
    start = datetime.now(UTC)
    responses = await asyncio.gather(*(client.post(COUNT, json=QUESTION) for _ in range(200)))
    elapsed = (datetime.now(UTC) - start).total_seconds()
    statuses = Counter(response.status_code for response in responses)
    assert statuses.keys() == {200, 429}
    assert 30 <= statuses[200] <= 30 + 30 * elapsed / 60 + 1


async def test_one_workspace_s_bucket_is_not_another_s(house: BatchHouse, client: httpx.AsyncClient) -> None:
    other = new_workspace("other")
    house.storage.keys.add_workspace(other)
    secret, key = new_key("theirs", other.id, "user")
    house.storage.keys.add_key(key, hash_key(secret))
    house.storage.limits.put(LimitRule(DEFAULT_WORKSPACE_ID, None, file_calls_per_minute=1))
    assert (await client.get("/v1/files")).status_code == 200
    assert (await client.get("/v1/files")).status_code == 429
    assert (await client.get("/v1/files", headers=HEADERS | {"x-api-key": secret})).status_code == 200


async def test_too_long_a_queue_refuses_a_batch(house: BatchHouse, client: httpx.AsyncClient) -> None:
    house.storage.limits.put(LimitRule(None, None, queued_batch_requests=3))
    bodies = [{"requests": [a_request(f"{name}{each}") for each in range(2)]} for name in "ab"]
    responses = await asyncio.gather(*(client.post(BATCHES, json=body) for body in bodies))
    kept, refused = sorted(responses, key=lambda response: response.status_code)
    assert (kept.status_code, refused.status_code) == (200, 429)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "3 batch requests in the processing queue" in refused.text
    assert int(refused.headers["retry-after"]) >= 1
    assert len(list(house.blobs.entries())) == 1
    house.runner.start()
    wait_until(lambda: not house.storage.batches.unfinished())
    assert (await client.post(BATCHES, json=bodies[0])).status_code == 200


async def test_who_has_spent_the_month_s_money_makes_no_batch(
    house: BatchHouse, client: httpx.AsyncClient
) -> None:
    house.storage.limits.put(LimitRule(DEFAULT_WORKSPACE_ID, None, micro_cents_per_month=1_000))
    spend(house, 1_000)
    refused = await client.post(BATCHES, json={"requests": [a_request("a")]})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert re.fullmatch(SPENT, error["message"])
    assert list(house.blobs.entries()) == []
    assert (await client.get(BATCHES)).json()["data"] == []


async def test_a_batch_whose_workspace_runs_out_of_money_ends_with_the_official_words(
    house: BatchHouse, client: httpx.AsyncClient
) -> None:
    made = await client.post(BATCHES, json={"requests": [a_request("a"), a_request("b")]})
    house.storage.limits.put(LimitRule(DEFAULT_WORKSPACE_ID, None, micro_cents_per_month=1_000))
    spend(house, 1_000)
    house.runner.start()
    wait_until(lambda: not house.storage.batches.unfinished())
    results = await client.get(f"{BATCHES}/{made.json()['id']}/results")
    for line in results.text.splitlines():
        error = json.loads(line)["result"]["error"]["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith("You have reached your specified workspace API usage limits.")
    assert len(results.text.splitlines()) == 2
