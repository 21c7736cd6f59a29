"""The Admin API's reports, over a ledger of a few known requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.datastructures import QueryParams

from hokku.api.anthropic.reports import read_usage_query
from hokku.api.config import Services
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, LedgerEntry
from hokku.service.administration import Administration
from hokku.service.key_making import new_key
from hokku.service.keys import KeyRing, hash_key
from hokku.service.prices import HOSTED_PRICES, cost
from hokku.service.reports import Reports
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS, KEY, client_of, services_of
from tests.fakes import FakeEngine

DAY = datetime(2026, 11, 20, tzinfo=UTC)
USAGE = "/v1/organizations/usage_report/messages"
COSTS = "/v1/organizations/cost_report"
ALL = {"starting_at": "2026-11-20T00:00:00Z", "ending_at": "2026-11-22T00:00:00Z"}


def entry(hours: float, number: int, **changes: Any) -> LedgerEntry:
    tokens: Any = {"input": number, "output": 1, "cache_write_5m": 2, "cache_write_1h": 3, "cache_read": 4}
    at = DAY + timedelta(hours=hours)
    base = LedgerEntry(at, "req", DEFAULT_WORKSPACE_ID, None, "haiku", "standard", "succeeded", tokens, {})
    made = replace(base, **changes)
    return replace(made, micro_cents=cost(tokens, HOSTED_PRICES, made.tier))


ENTRIES = [
    entry(0.5, 100),
    entry(1.5, 200, workspace_id="wrkspc_2", key_id="apikey_2"),
    entry(1.6, 300, tier="batch", batch_id="msgbatch_1", batch_position=0),
    entry(30, 400, model="other"),
]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    storage.ledger.append(ENTRIES)
    return storage


@pytest.fixture
def services(engine: FakeEngine, storage: Storage) -> Services:
    keys = KeyRing([hash_key(KEY)], storage)
    return replace(
        services_of(engine), keys=keys, reports=Reports(storage), administration=Administration(storage)
    )


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(services) as client:
        yield client


async def report(client: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    response = await client.get(path, params=ALL | query)
    assert response.status_code == 200, response.text
    assert "anthropic-workspace-id" not in response.headers
    body: dict[str, Any] = response.json()
    return body


async def test_usage_by_the_day(client: httpx.AsyncClient) -> None:
    body = await report(client, USAGE)
    assert (body["has_more"], body["next_page"]) == (False, None)
    first, second = body["data"]
    assert (first["starting_at"], first["ending_at"]) == ("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")
    assert first["results"] == [
        {
            "uncached_input_tokens": 600,
            "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 9},
            "cache_read_input_tokens": 12,
            "output_tokens": 3,
            "server_tool_use": {"web_search_requests": 0},
            "api_key_id": None,
            "workspace_id": None,
            "model": None,
            "service_tier": None,
            "context_window": None,
            "inference_geo": None,
            "account_id": None,
            "service_account_id": None,
        }
    ]
    assert [item["uncached_input_tokens"] for item in second["results"]] == [400]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"group_by[]": "workspace_id"}, [(None, 400), ("wrkspc_2", 200)]),
        ({"group_by[]": "api_key_id"}, [(None, 400), ("apikey_2", 200)]),
        ({"group_by[]": "service_tier"}, [("batch", 300), ("standard", 300)]),
        ({"group_by[]": "model", "models[]": ["haiku", "x"]}, [("haiku", 600)]),
        ({"group_by[]": "model", "workspace_ids[]": "wrkspc_2"}, [("haiku", 200)]),
        ({"group_by[]": "model", "service_tiers[]": "batch"}, [("haiku", 300)]),
        ({"group_by[]": "model", "api_key_ids[]": "apikey_2"}, [("haiku", 200)]),
        ({"group_by[]": "context_window"}, [("0-200k", 600)]),
        ({"group_by[]": "inference_geo", "context_window[]": "0-200k"}, [("not_available", 600)]),
        ({"group_by[]": "model", "context_window[]": "200k-1M"}, []),
        ({"group_by[]": "model", "inference_geos[]": "us"}, []),
    ],
)
async def test_groups_and_filters(
    client: httpx.AsyncClient, query: dict[str, Any], expected: list[tuple[str | None, int]]
) -> None:
    first, _ = (await report(client, USAGE, **query))["data"]
    shown = [(item[query["group_by[]"]], item["uncached_input_tokens"]) for item in first["results"]]
    assert sorted(shown, key=repr) == sorted(expected, key=repr)


async def test_pages_together_are_the_whole(client: httpx.AsyncClient) -> None:
    whole = await report(client, USAGE, bucket_width="1h", limit=168)
    assert len(whole["data"]) == 48
    pages: list[Any] = []
    query: dict[str, Any] = {"bucket_width": "1h", "limit": 7}
    while True:
        page = await report(client, USAGE, **query)
        pages += page["data"]
        if not page["has_more"]:
            break
        query["page"] = page["next_page"]
    assert pages == whole["data"]


async def test_minutes_come_from_the_ledger_itself(client: httpx.AsyncClient) -> None:
    body = await report(client, USAGE, bucket_width="1m", limit=1440, ending_at="2026-11-20T02:00:00Z")
    filled = {each["starting_at"] for each in body["data"] if each["results"]}
    assert filled == {"2026-11-20T00:30:00Z", "2026-11-20T01:30:00Z", "2026-11-20T01:36:00Z"}


async def test_costs(client: httpx.AsyncClient) -> None:
    first, second = (await report(client, COSTS))["data"]
    (total,) = first["results"]
    everything = sum(sum(each.micro_cents.values()) for each in ENTRIES[:3])
    assert Decimal(total["amount"]) == Decimal(everything) / 1_000_000
    assert total["amount"] == total["hosted_amount"]
    assert (total["currency"], total["description"], total["workspace_id"]) == ("USD", None, None)
    assert len(second["results"]) == 1


async def test_costs_by_description_add_up(client: httpx.AsyncClient) -> None:
    first, _ = (await report(client, COSTS, **{"group_by[]": ["workspace_id", "description"]}))["data"]
    by_token = {
        (each["workspace_id"], each["service_tier"], each["token_type"]): Decimal(each["amount"])
        for each in first["results"]
    }
    assert len(by_token) == len(first["results"]) == 15
    assert by_token["wrkspc_2", "standard", "uncached_input_tokens"] == Decimal(200 * 80) / 1_000_000
    assert by_token[None, "batch", "cache_creation.ephemeral_1h_input_tokens"] == Decimal(3 * 80) / 1_000_000
    everything = sum(sum(each.micro_cents.values()) for each in ENTRIES[:3])
    assert sum(by_token.values()) == Decimal(everything) / 1_000_000


@pytest.mark.parametrize("path", [USAGE, COSTS, "/v1/organizations/me"])
async def test_administrators_only(services: Services, storage: Storage, path: str) -> None:
    secret, key = new_key("mine", DEFAULT_WORKSPACE_ID, "user")
    storage.keys.add_key(key, hash_key(secret))
    boss, boss_key = new_key("boss", DEFAULT_WORKSPACE_ID, "admin")
    storage.keys.add_key(boss_key, hash_key(boss))
    async with client_of(services) as client:
        refused = await client.get(path, params=ALL, headers=HEADERS | {"x-api-key": secret})
        assert refused.status_code == 403
        assert refused.json()["error"] == {
            "type": "permission_error",
            "message": "this key may not use the Admin API",
        }
        assert (await client.get(path, params=ALL, headers=HEADERS | {"x-api-key": boss})).status_code == 200


async def test_a_revoked_key_is_refused_at_once(services: Services, storage: Storage) -> None:
    secret, key = new_key("mine", DEFAULT_WORKSPACE_ID, "user")
    storage.keys.add_key(key, hash_key(secret))
    async with client_of(services) as client:
        headers = HEADERS | {"x-api-key": secret}
        assert (await client.get("/v1/models", headers=headers)).status_code == 200
        storage.keys.set_status(key.id, "archived")
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "starting_at: Field required"),
        ({"starting_at": "yesterday"}, "starting_at: Input should be a date and time of RFC 3339"),
        ({"starting_at": "2026-11-20T00:00:00"}, "starting_at: Input should have a time zone"),
        ({"starting_at": "0001-01-01T00:00:00Z"}, "starting_at: Input should be a date of this age"),
        ({**ALL, "ending_at": "2026-11-19T00:00:00Z"}, "ending_at: must be after starting_at"),
        ({**ALL, "bucket_width": "1w"}, "bucket_width: Input should be '1m', '1h' or '1d'"),
        ({**ALL, "limit": "32"}, "limit: Input should be a whole number from 1 to 31"),
        ({**ALL, "limit": "0"}, "limit: Input should be a whole number from 1 to 31"),
        ({**ALL, "limit": "²"}, "limit: Input should be a whole number from 1 to 31"),
        ({**ALL, "page": "page_x"}, "page: Input should be a `next_page` of this report"),
        ({**ALL, "page": "page_MjAyMC0wMS0wMQ"}, "page: Input should be a `next_page` of this report"),
        ({**ALL, "page": "pagé"}, "page: Input should be a `next_page` of this report"),
        ({**ALL, "speed[]": "fast"}, "speed[]: Extra inputs are not permitted"),
    ],
)
def test_bad_queries(query: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_usage_query(QueryParams(query), DAY)
    assert str(refusal.value) == message


async def test_an_unknown_group_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get(COSTS, params=ALL | {"group_by[]": "model"})
    assert response.status_code == 400
    assert (
        response.json()["error"]["message"] == "group_by[]: Input should be 'workspace_id' or 'description'"
    )
