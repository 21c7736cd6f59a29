"""Migrations: a database is brought to this release's form, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import hokku.storage
from hokku.protocol.errors import DatabaseMismatch
from hokku.protocol.records import LimitRule
from hokku.storage.database import Database
from hokku.storage.revision import REVISION, QuickLook, check, migrate, quick_look, revision_of
from hokku.storage.schema import metadata
from hokku.storage.storage import Storage


def test_migrations_make_the_schema(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    assert revision_of(database) == REVISION
    check(database)


def test_the_revision_is_the_newest_file_s() -> None:
    migrations = Path(hokku.storage.__file__).with_name("migrations")
    assert ScriptDirectory(str(migrations)).get_current_head() == REVISION


def test_each_step_is_told_and_a_second_run_has_none(empty: Database) -> None:
    told: list[str] = []
    migrate(empty, told.append)
    assert told[-1] == REVISION
    assert len(told) == int(REVISION)
    migrate(empty, told.append)
    assert len(told) == int(REVISION)


def test_a_failed_step_leaves_nothing_behind(empty: Database) -> None:
    with empty.write() as connection:
        connection.execute(text("CREATE TABLE ledger (x INTEGER)"))  # in the way of the first migration
    with pytest.raises(Exception, match="ledger"):
        migrate(empty)
    assert inspect(empty.engine).get_table_names() == ["ledger"]


def test_a_database_that_is_behind_is_named_with_what_to_do(empty: Database) -> None:
    with pytest.raises(DatabaseMismatch, match=r"revision none, .* needs .*hokku database upgrade"):
        check(empty)


@pytest.mark.parametrize("act", [check, migrate])
def test_a_database_of_a_later_release_is_refused(database: Database, act: type) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseMismatch, match="revision 9999, which this release does not know"):
        act(database)
    assert revision_of(database) == "9999"


def test_a_file_s_form_is_known_without_sqlalchemy(tmp_path: Path) -> None:
    file = tmp_path / "hokku.db"
    assert quick_look(file) == QuickLook(
        is_current=False, has_limits=False, has_batches=False, has_files=False
    )
    file.write_bytes(b"not a database" * 100)
    assert quick_look(file) == QuickLook(is_current=False, has_limits=True, has_batches=True, has_files=True)
    file.unlink()
    storage = Storage(f"sqlite:///{file}")
    storage.check()
    assert not storage.may_have_limits
    store = storage.limits
    assert storage.may_have_limits
    assert quick_look(file) == QuickLook(
        is_current=True, has_limits=False, has_batches=False, has_files=False
    )
    store.put(LimitRule(None, None, requests_per_minute=1))
    assert quick_look(file) == QuickLook(is_current=True, has_limits=True, has_batches=False, has_files=False)
    again = Storage(f"sqlite:///{file}")
    again.check()
    assert again.may_have_limits
    with storage.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert not quick_look(file).is_current
    with pytest.raises(DatabaseMismatch):
        again.check()
    storage.close()
