"""The Models API: lists, pages, aliases, and the true context window."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from hokku.api.config import Services
from hokku.registry.manifest import Lifecycle
from hokku.service.draining import Drain
from hokku.service.keys import KeyRing, hash_key
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.readiness import Readiness
from tests.api.conftest import KEY, NO_ADMINISTRATION, NO_BATCHES, NO_FILES, NO_REPORTS, client_of
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, fake_manifest, fake_model

OLD, NEW, GONE = "old-20200101", "new-20260101", "gone-20190101"


@pytest.fixture
def services(engine: FakeEngine) -> Services:
    gone = replace(
        fake_manifest(GONE, year=2019), lifecycle=Lifecycle("retired", datetime(2020, 1, 2, tzinfo=UTC))
    )
    manifests = [fake_manifest(OLD, year=2020), gone, fake_manifest(), fake_manifest(NEW, year=2026)]
    catalogue = Catalogue(manifests, {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine))
    keys = KeyRing([hash_key(KEY)])
    return Services(
        MessagesService(catalogue),
        catalogue,
        keys,
        NO_REPORTS,
        NO_ADMINISTRATION,
        NO_BATCHES,
        Readiness(catalogue, Drain()),
        NO_FILES,
    )


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(services) as client:
        yield client


async def page(client: httpx.AsyncClient, query: str) -> tuple[list[str], bool]:
    body = (await client.get(f"/v1/models{query}")).json()
    ids = [model["id"] for model in body["data"]]
    assert (body["first_id"], body["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, body["has_more"]


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ("", [NEW, MODEL_ID, OLD], False),
        ("?beta=true", [NEW, MODEL_ID, OLD], False),
        ("?limit=1", [NEW], True),
        (f"?limit=1&after_id={NEW}", [MODEL_ID], True),
        (f"?limit=2&after_id={NEW}", [MODEL_ID, OLD], False),
        (f"?after_id={OLD}", [], False),
        (f"?limit=1&before_id={OLD}", [MODEL_ID], True),
        (f"?before_id={NEW}", [], False),
        ("?lifecycle[]=retired", [GONE], False),
        ("?lifecycle[]=retired&lifecycle[]=active", [NEW, MODEL_ID, OLD, GONE], False),
        ("?lifecycle[]=deprecated", [], False),
    ],
)
async def test_pages(client: httpx.AsyncClient, query: str, ids: list[str], has_more: bool) -> None:
    assert await page(client, query) == (ids, has_more)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("limit=1001", "limit: Input should be less than or equal to 1000"),
        ("limit=x", "limit: Input should be a valid integer, unable to parse string as an integer"),
        ("lifecycle[]=x", "lifecycle: Input should be 'active', 'deprecated' or 'retired'"),
        ("before_id=a&after_id=b", "before_id: cannot be combined with after_id"),
    ],
)
async def test_bad_queries(client: httpx.AsyncClient, query: str, sentence: str) -> None:
    response = await client.get(f"/v1/models?{query}")
    assert (response.status_code, response.json()["error"]["message"]) == (400, sentence)


@pytest.mark.parametrize("name", [MODEL_ID, ALIAS])
async def test_one_model(client: httpx.AsyncClient, name: str) -> None:
    model: dict[str, Any] = (await client.get(f"/v1/models/{name}")).json()
    capabilities = model.pop("capabilities")
    assert model == {
        "type": "model",
        "id": MODEL_ID,
        "display_name": "Claude Haiku 3.5",
        "created_at": "2024-10-22T00:00:00Z",
        "max_input_tokens": 1000,  # the loaded weights' window, smaller than the manifest's
        "max_tokens": 8192,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": "haiku",
    }
    assert capabilities["image_input"] == {"supported": False}
    for name in ("structured_outputs", "pdf_input", "citations"):
        assert capabilities[name] == {"supported": True}
    assert capabilities["thinking"]["types"]["disabled"] == {"supported": True}


async def test_retired_model(client: httpx.AsyncClient) -> None:
    model = (await client.get(f"/v1/models/{GONE}")).json()
    assert (model["lifecycle"], model["deprecated_at"]) == ("retired", "2020-01-02T00:00:00Z")
    assert model["max_input_tokens"] == 200_000


async def test_unknown_model(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models/claude-foo")
    assert response.status_code == 404
    assert response.json()["error"] == {"type": "not_found_error", "message": "model: claude-foo"}


async def test_models_need_a_key(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models", headers={"x-api-key": "sk-wrong"})).status_code == 401
