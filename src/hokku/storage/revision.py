"""Which form a database has, and bringing an older one to this release's form (Alembic).

Alembic is loaded only where there is something to do: a server's start asks for one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hokku.protocol.errors import DatabaseMismatch

if TYPE_CHECKING:
    from alembic.config import Config

    from hokku.storage.database import Database

REVISION = "0004"  # of the newest file in migrations/versions
_MIGRATION_LOCK = 0x486F6B6B75  # "Hokku"; of two servers that start at once, one makes the tables
_VERSION_QUERY = "SELECT version_num FROM alembic_version"
_LIMITS_QUERY = "SELECT 1 FROM limits LIMIT 1"
_BATCHES_QUERY = "SELECT 1 FROM batches LIMIT 1"
_FILES_QUERY = "SELECT 1 FROM files LIMIT 1"


@dataclass(frozen=True, slots=True)
class QuickLook:
    """What the standard library alone can tell of a SQLite file."""

    is_current: bool
    has_limits: bool
    has_batches: bool
    has_files: bool


def quick_look(file: Path) -> QuickLook:
    """Whether a file is there and has this release's form, and whether there are rules, batches and files in it."""
    if not file.is_file():
        return QuickLook(is_current=False, has_limits=False, has_batches=False, has_files=False)
    import sqlite3  # its library takes longer to load than all the rest of a first look

    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            is_current = connection.execute(_VERSION_QUERY).fetchall() == [(REVISION,)]
            has_limits = is_current and connection.execute(_LIMITS_QUERY).fetchone() is not None
            has_batches = is_current and connection.execute(_BATCHES_QUERY).fetchone() is not None
            has_files = is_current and connection.execute(_FILES_QUERY).fetchone() is not None
            return QuickLook(is_current, has_limits, has_batches, has_files)
        finally:
            connection.close()
    except sqlite3.Error:
        # Whoever opens it properly will say what is wrong.
        return QuickLook(is_current=False, has_limits=True, has_batches=True, has_files=True)


def revision_of(database: Database) -> str | None:
    """The revision that a database says it has; None for an empty one. Raises `StorageUnavailable`."""
    from alembic.runtime.migration import MigrationContext

    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def migrate(database: Database, told: Callable[[str], None] = lambda revision: None) -> None:
    """Bring a database to this release's form, in one transaction a step.

    Args:
        told: hears of each revision that is about to be made.

    Raises:
        DatabaseMismatch: it is of a later release.
        StorageUnavailable: it does not answer.
    """
    from alembic import command
    from alembic.script import ScriptDirectory
    from sqlalchemy import text

    current = revision_of(database)
    if current == REVISION:
        return
    config = _config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise _of_a_later_release(current)
    with database.write() as connection:
        if not database.is_sqlite:  # whose writers take turns anyway
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        config.attributes["told"] = told
        command.upgrade(config, REVISION)


def check(database: Database) -> None:
    """Refuse a database that does not have this release's form. Raises `DatabaseMismatch`, `StorageUnavailable`."""
    from alembic.script import ScriptDirectory

    current = revision_of(database)
    if current == REVISION:
        return
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise _of_a_later_release(current)
    raise DatabaseMismatch(
        f"has revision {current or 'none'}, this release needs {REVISION}",
        place="database",
        way_out="stop every server that uses it, make a copy, and run hokku database upgrade",
    )


def _of_a_later_release(revision: str) -> DatabaseMismatch:
    return DatabaseMismatch(
        f"has revision {revision}, which this release does not know (it knows {REVISION})",
        place="database",
        way_out="run the release of Hokku that made it, or a later one",
    )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
