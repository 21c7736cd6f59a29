"""A live server over the fake engine, for the official clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.chat.formats.plain import PLAIN
from hokku.protocol.engine import GenerationRequest
from hokku.protocol.messages import ToolUsePart
from tests.api.conftest import services_of
from tests.fakes import FakeEngine, Script, says
from tests.live import live_server

CALLED: list[tuple[str, dict[str, Any]]] = [("clock", {"zone": 'Ü "x" \\ 😀'}), ("clock", {})]


def calls_a_tool_that_is_shown(request: GenerationRequest) -> Script:
    """Two calls where tools are shown, and else a greeting."""
    if b"<tools>" not in bytes(request.prompt):
        return says("Hello, world!")(request)
    return says(PLAIN.syntax.spell([ToolUsePart("", *call) for call in CALLED]))(request)


@pytest.fixture(scope="session")
def live_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def base_url(live_engine: FakeEngine) -> Iterator[str]:
    with live_server(create_app(services_of(live_engine), ApiConfig())) as url:
        yield url
