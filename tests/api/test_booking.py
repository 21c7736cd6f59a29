"""What a wire refuses is a row of the ledger, for nothing; what asks for no reply is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hokku.api.config import ApiConfig, Services
from hokku.protocol.records import LedgerEntry
from tests.api.conftest import client_of, services_of
from tests.api.test_body_errors import GOOD
from tests.fakes import FakeEngine

COMPLETION = {"model": GOOD["model"], "max_tokens_to_sample": 9, "prompt": "\n\nHuman: Hi\n\nAssistant:"}


@pytest.fixture
def booked() -> list[LedgerEntry]:
    return []


@pytest.fixture
def services(engine: FakeEngine, booked: list[LedgerEntry]) -> Services:
    return replace(services_of(engine), book=booked.append)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/messages", GOOD | {"max_tokens": "many"}, 400),
        ("/v1/messages", GOOD | {"model": "claude-foo"}, 404),
        ("/v1/messages", GOOD | {"system": "x" * 3_000}, 413),
        ("/v1/complete", COMPLETION | {"prompt": 7}, 400),
        ("/v1/complete", COMPLETION | {"model": "claude-foo"}, 404),
    ],
)
async def test_a_refused_body_is_a_row(
    services: Services, booked: list[LedgerEntry], path: str, body: dict[str, Any], status: int
) -> None:
    async with client_of(services, ApiConfig(max_body_bytes=2_000)) as client:
        response = await client.post(path, json=body)
    assert response.status_code == status
    (entry,) = booked
    assert entry.request_id == response.headers["request-id"]
    assert (entry.outcome, entry.model, entry.tokens) == ("errored", "", {})


async def test_what_asks_for_no_reply_is_no_row(services: Services, booked: list[LedgerEntry]) -> None:
    async with client_of(services) as client:
        stranger = await client.post("/v1/messages", json={}, headers={"x-api-key": "wrong"})
        counted = await client.post("/v1/messages/count_tokens", json={})
        unknown = await client.get("/v1/models/claude-foo")
    assert [each.status_code for each in (stranger, counted, unknown)] == [401, 400, 404]
    assert not booked
