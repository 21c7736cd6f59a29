"""Both places where the levels of rate limits are kept."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from hokku.quotas.buckets import Buckets, LocalBuckets
from hokku.quotas.valkey import ValkeyBuckets
from tests.valkey import Valkey, program, running_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    found = program()
    if found is None:
        assert not os.environ.get("CI"), "CI installs a server"
        pytest.skip("neither Valkey nor Redis is installed")
    with running_valkey(found) as server:
        yield server


@pytest.fixture(params=["local", "valkey"])
async def buckets(request: pytest.FixtureRequest) -> AsyncIterator[Buckets]:
    if request.param == "local":
        yield LocalBuckets()
    else:
        server: Valkey = request.getfixturevalue("valkey")
        shared = ValkeyBuckets(server.url)
        await shared._client.flushall()
        yield shared
        await shared.close()
