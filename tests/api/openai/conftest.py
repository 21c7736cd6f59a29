"""The ASGI app, called as clients of the OpenAI form call it: with a bearer key, and no version."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from hokku.api.config import ApiConfig, Services
from tests.api.conftest import KEY, client_of, services_of
from tests.fakes import FakeEngine


def openai_client(services: Services, config: ApiConfig | None = None) -> httpx.AsyncClient:
    client = client_of(services, config)
    for name in ("x-api-key", "anthropic-version"):
        del client.headers[name]
    client.headers["authorization"] = f"Bearer {KEY}"
    return client


@pytest.fixture
async def chats(engine: FakeEngine) -> AsyncIterator[httpx.AsyncClient]:
    async with openai_client(services_of(engine)) as client:
        yield client
