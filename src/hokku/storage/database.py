"""One database, reached from many threads: transactions, what SQLite and PostgreSQL do differently, and the revision.

Everything here blocks; the service calls it on threads of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Column, Connection, Engine, Row, Select, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.dml import Insert

from hokku.protocol.errors import BadSetting, StorageFull, StorageUnavailable

_log = logging.getLogger(__name__)

BACKENDS = ("sqlite", "postgresql")
_POSTGRES_ARGUMENTS = {"connect_timeout": 10}  # seconds
_BUSY_SECS = 30  # how long a writer of SQLite waits for another process's transaction
# Execution options of connections:
_WRITES = "hokku_writes"
_SINGLE = "hokku_single"  # for one statement, without a transaction


class Database:
    """A database and its pool of connections.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/name`.

    Raises:
        BadSetting: not such a URL, or the driver for PostgreSQL is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            _make_folder(Path(self.url.database).parent)
        self._engine = _engine(self.url)
        self._single = (
            self._engine.execution_options(**{_SINGLE: True}) if self.is_sqlite else _bare(self.url)
        )

    @property
    def engine(self) -> Engine:
        """For migrations."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the database. Raises `StorageUnavailable`."""
        with _named_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: all of it is kept, on disk, or nothing. Raises `StorageUnavailable`."""
        writing = self._engine.execution_options(**{_WRITES: True})
        with _named_errors(), writing.begin() as connection:
            yield connection

    def first(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        """The first row of a statement by itself. For what is asked all the time: a transaction, and the look whether
        the connection still lives, would be three more journeys to a PostgreSQL. Raises `StorageUnavailable`."""
        with _named_errors():
            try:
                return self._first(statement, parameters)
            except DBAPIError as cause:
                if not cause.connection_invalidated:
                    raise
                return self._first(statement, parameters)  # it had died while nobody used it, and is replaced

    def _first(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Row[Any] | None:
        with self._single.connect() as connection:
            return connection.execute(statement, parameters).first()

    def ping(self) -> None:
        """See that it answers. Raises `StorageUnavailable`."""
        with self.read() as connection:
            connection.exec_driver_sql("SELECT 1 FROM alembic_version")

    def insert(self, table: Table) -> Any:
        """An INSERT that knows `on_conflict_do_update` and `on_conflict_do_nothing`, which both databases have."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()
        self._single.dispose()


def parse_url(text: str) -> URL:
    """A database URL with the driver that Hokku uses. Raises `BadSetting`; a password is never repeated."""
    try:
        url = make_url(text)
    except ArgumentError as cause:
        raise BadSetting("is not a database URL", place="database", way_out=_EXAMPLES) from cause
    backend = url.get_backend_name()
    if backend not in BACKENDS:
        raise BadSetting(f"no {backend} database can be used", place="database", way_out=_EXAMPLES)
    return url.set(drivername={"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}[backend])


_EXAMPLES = "for example sqlite:////var/lib/hokku/hokku.db or postgresql://hokku@localhost/hokku"


def adding(insert: Any, keys: Sequence[Column[Any]], sums: Sequence[Column[Any]]) -> Insert:
    """The INSERT as one that adds to a row that is there already."""
    added = {column.name: column + insert.excluded[column.name] for column in sums}
    statement: Insert = insert.on_conflict_do_update(index_elements=list(keys), set_=added)
    return statement


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_engine(url, connect_args={"timeout": _BUSY_SECS, "check_same_thread": False})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        # A connection that died while nobody used it is noticed and replaced before it is handed out.
        return create_engine(url, pool_pre_ping=True, connect_args=_POSTGRES_ARGUMENTS)
    except ModuleNotFoundError as cause:
        raise BadSetting(
            "the driver for PostgreSQL is not installed",
            place="database",
            way_out="pip install 'hokku-llm[postgres]'",
        ) from cause


def _bare(url: URL) -> Engine:
    """Connections to a PostgreSQL for statements by themselves."""
    return create_engine(url, isolation_level="AUTOCOMMIT", connect_args=_POSTGRES_ARGUMENTS)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun below, not by the driver, which would begin them too late for what is read first.
    connection.isolation_level = None
    # Readers never wait for the writer, and what is committed is on disk even if the power fails (sqlite.org/wal.html).
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_SINGLE):
        return
    # A writer that began as a reader cannot wait for its turn; so it says from the start what it is.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise BadSetting(f"cannot keep a database there: {cause.strerror}", place=str(folder)) from cause


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as cause:
        if not _is_unavailable(cause):
            raise
        _log.error("the database did not answer: %s", cause.orig)
        if _is_full(cause):
            raise StorageFull("The disk of the database is full") from cause
        raise StorageUnavailable("The database is unavailable") from cause
    except PoolTimeout as cause:  # no connection of the pool has become free
        raise StorageUnavailable("The database is unavailable") from cause


def _is_unavailable(cause: DBAPIError) -> bool:
    # SQLite's word for a wrong statement is the same class as for a full disk; only its code tells them apart.
    is_wrong_statement = getattr(cause.orig, "sqlite_errorname", "") == "SQLITE_ERROR"
    return cause.connection_invalidated or (isinstance(cause, OperationalError) and not is_wrong_statement)


def _is_full(cause: DBAPIError) -> bool:
    by_sqlite = getattr(cause.orig, "sqlite_errorname", "") == "SQLITE_FULL"
    return by_sqlite or getattr(cause.orig, "sqlstate", "") == "53100"  # PostgreSQL's disk_full
