"""`hokku workspaces`: scopes that never see each other's caches, keys and usage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from hokku.cli.options import takes_settings
from hokku.settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make, list and archive workspaces: scopes that never see each other's caches, keys and usage.",
)


@app.command("create")
@takes_settings("files")
def create_workspace(
    settings: Settings, name: Annotated[str, typer.Argument(help="A name of its own, for people to read.")]
) -> None:
    """Make a workspace and print its id."""
    from hokku.app import open_storage
    from hokku.service.key_making import new_workspace

    workspace = new_workspace(name)
    with open_storage(settings) as storage:
        storage.keys.add_workspace(workspace)
    print(workspace.id)


@app.command("list")
@takes_settings("files")
def list_workspaces(settings: Settings) -> None:
    """Every workspace, archived ones too."""
    from rich.console import Console
    from rich.table import Table

    from hokku.app import open_storage

    shown = Table("Id", "Name", "Made", "Archived", box=None, pad_edge=False)
    with open_storage(settings) as storage:
        for each in storage.keys.workspaces():
            archived = each.archived_at.date().isoformat() if each.archived_at else ""
            shown.add_row(each.id, each.name, each.created_at.date().isoformat(), archived)
    Console().print(shown)


@app.command("archive")
@takes_settings("files")
def archive_workspace(
    settings: Settings, name: Annotated[str, typer.Argument(help="The workspace, by name or id.")]
) -> None:
    """Close a workspace and its keys for good. What it used stays in the reports."""
    from hokku.app import open_storage

    with open_storage(settings) as storage:
        workspace = storage.keys.workspace(name)
        storage.keys.archive_workspace(workspace.id, datetime.now(UTC))
    print(f"{workspace.name} is archived")
