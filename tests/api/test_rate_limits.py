"""Limits on the wire: what is told, who is refused, and that nobody gets more than there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from hokku.api.anthropic.rate_headers import rate_headers
from hokku.api.config import Services
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, Level, LimitRule, RateLevels
from hokku.quotas.buckets import LocalBuckets
from hokku.service.key_making import new_key, new_workspace
from hokku.service.keys import KeyRing, hash_key
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.rate_limits import RateLimits
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS, KEY, client_of, services_of
from tests.api.test_body_errors import GOOD
from tests.fakes import FakeEngine

MOMENT = datetime(2026, 11, 22, 12, 0, 0, 500, tzinfo=UTC)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"sqlite:///{tmp_path}/hokku.db")


@pytest.fixture
def services(engine: FakeEngine, storage: Storage) -> Services:
    services = services_of(engine)
    limits = RateLimits(storage, LocalBuckets(), "org")
    limited = LimitedReplies(MessagesService(services.catalogue), limits, services.catalogue.manifest)
    return replace(services, messages=limited, keys=KeyRing([hash_key(KEY)], storage))


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(services) as client:
        yield client


def told(response: httpx.Response, name: str) -> tuple[int, int]:
    prefix = f"anthropic-ratelimit-{name}"
    assert response.headers[f"{prefix}-reset"].endswith("Z")
    return int(response.headers[f"{prefix}-limit"]), int(response.headers[f"{prefix}-remaining"])


@pytest.mark.parametrize("stream", [False, True])
async def test_levels_are_told_on_success_and_refusal(
    client: httpx.AsyncClient, storage: Storage, stream: bool
) -> None:
    storage.limits.put(LimitRule(None, None, 2, 1_000, 500))
    for remaining in (1, 0):
        response = await client.post("/v1/messages", json=GOOD | {"stream": stream})
        assert response.status_code == 200
        assert told(response, "requests") == (2, remaining)
        assert told(response, "tokens") == told(response, "output-tokens")
        assert told(response, "input-tokens")[0] == 1_000
    refused = await client.post("/v1/messages", json=GOOD | {"stream": stream})
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert told(refused, "requests") == (2, 0)
    assert refused.headers["x-should-retry"] == "true"


async def test_without_a_rule_nothing_is_told(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/messages", json=GOOD)
    assert not [name for name in response.headers if name.startswith("anthropic-ratelimit")]


async def test_what_was_not_written_comes_back(client: httpx.AsyncClient, storage: Storage) -> None:
    storage.limits.put(LimitRule(None, None, output_tokens_per_minute=1_000))
    first = await client.post("/v1/messages", json=GOOD | {"max_tokens": 900})
    assert told(first, "output-tokens") == (1_000, 100)
    while True:  # settled in the background
        response = await client.post("/v1/messages", json=GOOD | {"max_tokens": 900})
        if response.status_code == 200:
            return
        await asyncio.sleep(0.01)


async def test_a_refused_body_takes_one_request_and_no_tokens(
    client: httpx.AsyncClient, storage: Storage, engine: FakeEngine
) -> None:
    storage.limits.put(
        LimitRule(None, None, 2, 5_000, 500)
    )  # two, so that none comes back within half a minute
    engine.context_window_tokens = 5
    too_long = await client.post("/v1/messages", json=GOOD)
    assert too_long.status_code == 400
    engine.context_window_tokens = 1_000
    await asyncio.sleep(0.05)
    response = await client.post("/v1/messages", json=GOOD)
    assert told(response, "requests") == (2, 0)
    assert told(response, "input-tokens")[1] > 4_950


async def test_one_workspace_s_limit_is_not_another_s(client: httpx.AsyncClient, storage: Storage) -> None:
    other = new_workspace("other")
    storage.keys.add_workspace(other)
    secret, key = new_key("theirs", other.id, "user")
    storage.keys.add_key(key, hash_key(secret))
    storage.limits.put(LimitRule(DEFAULT_WORKSPACE_ID, None, requests_per_minute=1))
    assert (await client.post("/v1/messages", json=GOOD)).status_code == 200
    assert (await client.post("/v1/messages", json=GOOD)).status_code == 429
    theirs = await client.post("/v1/messages", json=GOOD, headers=HEADERS | {"x-api-key": secret})
    assert theirs.status_code == 200


async def test_two_hundred_clients_at_once(client: httpx.AsyncClient, storage: Storage) -> None:
    storage.limits.put(LimitRule(None, None, requests_per_minute=30))
    start = datetime.now(UTC)
    responses = await asyncio.gather(*(client.post("/v1/messages", json=GOOD) for _ in range(200)))
    elapsed = (datetime.now(UTC) - start).total_seconds()
    good = [response for response in responses if response.status_code == 200]
    assert 30 <= len(good) <= 30 + 30 * elapsed / 60 + 1
    remaining = sorted(told(response, "requests")[1] for response in good)
    assert remaining[:30] == sorted(remaining)[:30]
    assert remaining[-1] <= 29
    assert {response.status_code for response in responses} == {200, 429}


def test_token_levels_are_whole_thousands_rounded_down() -> None:
    full_at = MOMENT
    levels = RateLevels(Level(50, 49, full_at), Level(50_000, 49_999, full_at), Level(8_000, 7_999, full_at))
    headers = rate_headers(levels)
    assert headers["anthropic-ratelimit-requests-remaining"] == "49"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "49000"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "7999"
    assert headers["anthropic-ratelimit-tokens-limit"] == "8000"
    assert headers["anthropic-ratelimit-requests-reset"] == "2026-11-22T12:00:01Z"
    whole = rate_headers(RateLevels(Level(1, 1, MOMENT.replace(microsecond=0) + timedelta(seconds=3))))
    assert whole == {
        "anthropic-ratelimit-requests-limit": "1",
        "anthropic-ratelimit-requests-remaining": "1",
        "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:03Z",
    }
