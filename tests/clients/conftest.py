"""A live server over the fake engine, for the official clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from tests.api.conftest import services_of
from tests.fakes import FakeEngine
from tests.live import live_server


@pytest.fixture(scope="session")
def live_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def base_url(live_engine: FakeEngine) -> Iterator[str]:
    with live_server(create_app(services_of(live_engine), ApiConfig())) as url:
        yield url
