"""What Alembic runs: the steps from a database's revision to ours, over the connection `revision.py` has opened."""

from __future__ import annotations

from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationInfo

from hokku.storage.schema import metadata


def _tell(*, step: MigrationInfo, **_: Any) -> None:
    context.config.attributes["told"](step.up_revision_id)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by making a new one
    transactional_ddl=True,
    on_version_apply=_tell,  # type: ignore[arg-type]
)
context.run_migrations()
