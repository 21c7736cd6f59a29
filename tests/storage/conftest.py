"""Every test of this folder runs on both databases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hokku.storage.database import Database
from hokku.storage.revision import migrate
from tests.storage.postgres import Postgres, programs, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = programs()
    if found is None:
        assert not os.environ.get("CI"), "CI installs PostgreSQL"
        pytest.skip("PostgreSQL is not installed")
    with running_postgres(found) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hokku.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh_url()


@pytest.fixture
def empty(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def database(empty: Database) -> Database:
    migrate(empty)
    return empty
