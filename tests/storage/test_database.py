"""Transactions, lost connections, and URLs."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from hokku.protocol.errors import BadSetting, StorageUnavailable
from hokku.storage.database import Database, parse_url
from hokku.storage.revision import migrate
from hokku.storage.schema import workspaces
from tests.storage.postgres import Postgres

ROW = {"id": "wrkspc_1", "name": "one", "created_at": 0}


def num_rows(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(workspaces)).scalar_one()


class StopHereError(Exception):
    pass


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    def fail_late() -> None:
        with database.write() as connection:
            connection.execute(workspaces.insert().values(ROW))
            raise StopHereError

    with pytest.raises(StopHereError):
        fail_late()
    assert num_rows(database) == 1  # the default workspace


def test_writers_in_many_threads_wait_for_each_other(database: Database) -> None:
    def add(first: int) -> None:
        for number in range(first, first + 10):
            with database.write() as connection:
                count = connection.execute(select(func.count()).select_from(workspaces)).scalar_one()
                values = {"id": f"wrkspc_{number}", "name": f"{number}", "created_at": count}
                connection.execute(workspaces.insert().values(values))

    threads = [threading.Thread(target=add, args=(place * 10,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert num_rows(database) == 81


def test_a_lost_connection_is_an_error_and_the_next_one_is_made_anew(postgres: Postgres) -> None:
    database = Database(postgres.fresh_url())
    migrate(database)
    assert num_rows(database) == 1  # the default workspace
    postgres.stop()
    try:
        with pytest.raises(StorageUnavailable, match="The database is unavailable"):
            num_rows(database)
        with pytest.raises(StorageUnavailable):
            database.ping()
    finally:
        postgres.start()
    assert num_rows(database) == 1  # the default workspace
    database.ping()
    database.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hokku.db", "is not a database URL"),
        ("mysql://root:secret@localhost/x", "no mysql database can be used"),
    ],
)
def test_urls_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(BadSetting, match=words) as failure:
        parse_url(url)
    assert "secret" not in str(failure.value)


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(BadSetting, match="cannot keep a database there"):
        Database("sqlite:////proc/nowhere/hokku.db")
