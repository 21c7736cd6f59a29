"""`hokku database`: which form it has, and bringing an older one to this release's."""

from __future__ import annotations

import typer

from hokku.cli.options import takes_settings
from hokku.settings import Settings, database_url

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Look at the database of keys and usage, and bring it to the form of this release.",
)


@app.command("status")
@takes_settings("files")
def show_status(settings: Settings) -> None:
    """The database's revision beside the one that this release needs."""
    from hokku.storage.database import Database
    from hokku.storage.revision import REVISION, revision_of

    database = Database(database_url(settings))
    shown = database.url.render_as_string(hide_password=True)
    print(f"{shown} has revision {revision_of(database) or 'none'}; this release needs {REVISION}")
    database.close()


@app.command("upgrade")
@takes_settings("files")
def upgrade(settings: Settings) -> None:
    """Bring the database to the form of this release. Stop the servers that use it and make a copy first."""
    from hokku.storage.database import Database
    from hokku.storage.revision import REVISION, migrate

    database = Database(database_url(settings))
    migrate(database, lambda revision: print(f"making revision {revision}"))
    print(f"the database has revision {REVISION}")
    database.close()
