"""Migrations: a database is brought to this release's form, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, LargeBinary, MetaData, inspect, select, text

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


EARLIER = [f"{number:04}" for number in range(1, int(REVISION))]


def migrate_as_of(database: Database, revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the release did whose newest revision this was."""
    with monkeypatch.context() as patched:
        patched.setattr("hokku.storage.revision.REVISION", revision)
        migrate(database)


def some_value(column: Column[Any], number: int) -> Any:
    """Something of the column's type, other than any other row's."""
    if isinstance(column.type, Integer):
        return number
    return f"{column.name} {number}".encode() if isinstance(column.type, LargeBinary) else f"{number}"


def fill(database: Database, num_rows: int = 3) -> None:
    """Put rows into every table that there is; references point at the row of the same number."""
    tables = MetaData()
    tables.reflect(database.engine)
    with database.write() as connection:
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                rows = [
                    {column.name: some_value(column, number) for column in table.columns}
                    for number in range(1, num_rows + 1)
                ]
                connection.execute(table.insert(), rows)


def contents(database: Database, names: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """The rows of tables."""
    tables = MetaData()
    tables.reflect(database.engine, only=names)
    with database.read() as connection:
        return {
            name: sorted((dict(row._mapping) for row in connection.execute(select(table))), key=repr)
            for name, table in tables.tables.items()
            if name != "alembic_version"
        }


@pytest.mark.parametrize("revision", EARLIER)
def test_a_database_of_an_earlier_release_keeps_every_row(
    empty: Database, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate_as_of(empty, revision, monkeypatch)
    fill(empty)
    before = contents(empty)
    assert before
    assert all(len(rows) >= 3 for rows in before.values())
    with pytest.raises(DatabaseMismatch, match=f"has revision {revision}, this release needs {REVISION}"):
        check(empty)
    told: list[str] = []
    migrate(empty, told.append)
    assert told == [*EARLIER[EARLIER.index(revision) + 1 :], REVISION]
    check(empty)
    after = contents(empty, list(before))
    for name, rows in before.items():
        columns = rows[0].keys()
        assert [{key: row[key] for key in columns} for row in after[name]] == rows
    with empty.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
