"""`hokku keys`: make, list and revoke the keys that clients show."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from hokku.cli.options import takes_settings
from hokku.protocol.errors import BadSetting
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, KeyRole
from hokku.settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make, list and revoke keys. They are kept in the database, as hashes; a server sees a change at once.",
)


@app.command("create")
@takes_settings("files")
def create_key(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="What the key is for, for people to read.")],
    workspace: Annotated[
        str,
        typer.Option("--workspace", "-w", metavar="NAME", help="The workspace it belongs to, by name or id."),
    ] = DEFAULT_WORKSPACE_ID,
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="user|admin", help="An admin's key may also read reports on everything."
        ),
    ] = "user",
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, max=36_500, help="How long it is good for; without it, for ever."),
    ] = None,
    aws: Annotated[
        bool,
        typer.Option(
            "--aws", help="Make an access key id and a secret that signs requests, for clients of Bedrock."
        ),
    ] = False,
) -> None:
    """Make a key and print it, this once.

    \b
    Examples:
      hokku keys create "nightly reports"
      hokku keys create app --workspace web-team --days 90
      hokku keys create boss --role admin
      hokku keys create boto3 --aws
    """
    from hokku.app import open_storage, signing_secret
    from hokku.service.access_pairs import new_pair
    from hokku.service.key_making import new_key
    from hokku.service.keys import hash_key

    lifetime = timedelta(days=days) if days else None
    with open_storage(settings) as storage:
        home = storage.keys.workspace(workspace)
        if aws:
            signing = signing_secret(settings).known_or_made()
            pair = new_pair(signing, name, home.id, _role(role), lifetime)
            storage.keys.add_key(pair.key, pair.key_hash)
            print(f"AWS_ACCESS_KEY_ID={pair.access_key_id}\nAWS_SECRET_ACCESS_KEY={pair.secret}")
            return
        secret, key = new_key(name, home.id, _role(role), lifetime)
        storage.keys.add_key(key, hash_key(secret))
    print(secret)


@app.command("list")
@takes_settings("files")
def list_keys(settings: Settings) -> None:
    """Every key: what it is for, whose, and whether it is good."""
    from rich.console import Console
    from rich.table import Table

    from hokku.app import open_storage

    with open_storage(settings) as storage:
        names = {each.id: each.name for each in storage.keys.workspaces()}
        shown = Table(
            "Id", "Name", "Workspace", "Role", "Key", "Status", "Made", "Ends", box=None, pad_edge=False
        )
        for key in storage.keys.all_keys():
            ends = key.expires_at.date().isoformat() if key.expires_at else "never"
            made = key.created_at.date().isoformat()
            workspace = names[key.workspace_id]
            shown.add_row(key.id, key.name, workspace, key.role, key.hint, key.status, made, ends)
    Console().print(shown)


@app.command("revoke")
@takes_settings("files")
def revoke_key(
    settings: Settings, key_id: Annotated[str, typer.Argument(help="The key's id, from hokku keys list.")]
) -> None:
    """Close a key for good. Its next request is refused, on every server that uses this database."""
    from hokku.app import open_storage

    with open_storage(settings) as storage:
        storage.keys.set_status(key_id, "archived")
    print(f"{key_id} is revoked")


def _role(text: str) -> KeyRole:
    match text:
        case "user" | "admin":
            return text
    raise BadSetting(f"must be user or admin, not {text!r}", place="--role")
