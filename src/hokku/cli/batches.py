"""`hokku batches`: look at Message Batches, cancel them, and work through a file of requests without a server."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hokku.cli.options import takes_settings
from hokku.settings import Settings

if TYPE_CHECKING:
    from hokku.protocol.batches import Batch
    from hokku.storage.storage import Storage

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Look at Message Batches and cancel them, in the database; or run a file of requests without a server.",
)
_BatchId = Annotated[str, typer.Argument(help="The batch's id, from hokku batches list.")]
_POLL_SECS = 0.5


@app.command("list")
@takes_settings("files")
def list_batches(
    settings: Settings,
    most: Annotated[int, typer.Option("--most", min=1, max=1000, help="How many are shown.")] = 20,
) -> None:
    """Every workspace's batches, newest first: how far they are, and whether a server works on them."""
    from rich.console import Console
    from rich.table import Table

    from hokku.app import open_storage

    with open_storage(settings) as storage:
        found, has_more = storage.batches.page(None, most)
        shown = Table("Id", "Workspace", "Made", "State", "Done", "Of", "Failed", box=None, pad_edge=False)
        for batch in found:
            done = batch.counts.total - batch.counts.processing
            made = f"{batch.created_at:%Y-%m-%d %H:%M}"
            failed = str(batch.counts.errored + batch.counts.expired)
            state = _state(storage, batch)
            shown.add_row(
                batch.id, batch.workspace_id, made, state, f"{done:,}", f"{batch.counts.total:,}", failed
            )
    Console().print(shown)
    if has_more:
        print("there are more: --most 1000")


@app.command("show")
@takes_settings("files")
def show_batch(settings: Settings, batch_id: _BatchId) -> None:
    """One batch."""
    from hokku.app import open_storage

    with open_storage(settings) as storage:
        batch = storage.batches.find(batch_id)
        lines = {
            "workspace": batch.workspace_id,
            "state": _state(storage, batch),
            **{name: f"{number:,}" for name, number in _counts(batch).items()},
            "made": _moment(batch.created_at),
            "expires": _moment(batch.expires_at),
            "canceled": _moment(batch.cancel_initiated_at),
            "ended": _moment(batch.ended_at),
            "archived": _moment(batch.archived_at),
        }
    print(batch.id)
    print("\n".join(f"  {label:<11}{value}" for label, value in lines.items() if value))


@app.command("watch")
@takes_settings("files")
def watch_batch(settings: Settings, batch_id: _BatchId) -> None:
    """Draw a progress bar until the batch ends."""
    from hokku.app import open_storage
    from hokku.cli.progress import requests_bar

    with open_storage(settings) as storage:
        batch = storage.batches.find(batch_id)
        with requests_bar() as advance:
            while batch.status != "ended":
                total = batch.counts.total
                advance(total - batch.counts.processing, total, _state(storage, batch))
                time.sleep(_POLL_SECS)
                batch = storage.batches.find(batch_id)
    print(f"{batch.id} has ended: " + ", ".join(f"{n:,} {name}" for name, n in _counts(batch).items() if n))


@app.command("cancel")
@takes_settings("files")
def cancel_batch(settings: Settings, batch_id: _BatchId) -> None:
    """Cancel a batch. What runs already may finish; the server that works on it ends it within seconds."""
    from hokku.app import open_storage

    with open_storage(settings) as storage:
        workspace_id = storage.batches.find(batch_id).workspace_id
        batch = storage.batches.cancel(batch_id, workspace_id, datetime.now(UTC))
    print(f"{batch.id} is {'being canceled' if batch.status == 'canceling' else 'ended already'}")


@app.command("run")
@takes_settings("engine", "files")
def run_file(
    settings: Settings,
    requests: Annotated[
        Path, typer.Argument(help='JSONL, each line {"custom_id": …, "params": {…}}, as in a Message Batch.')
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the results go, as JSONL.")],
) -> None:
    """Answer a file of requests with a model loaded here. Run again after a stop, it goes on where it was.

    \b
    Examples:
      hokku batches run reviews.jsonl -o answers.jsonl
    """
    from hokku.app import open_batch_answers
    from hokku.batch_file import run_batch_file
    from hokku.cli.progress import PackingBar, pull_with_bar, requests_bar

    with (
        PackingBar() as packing,
        open_batch_answers(settings, pull_with_bar, packing) as answers,
        requests_bar() as advance,
    ):
        done = run_batch_file(answers, settings.max_running, requests, output, advance)
    print(f"{output} has {done.num_results:,} results, {done.num_errored:,} of them errors")


def _state(storage: Storage, batch: Batch) -> str:
    if batch.status == "ended":
        return "ended"
    is_claimed = storage.batches.is_worked_on(batch.id, datetime.now(UTC))
    return batch.status if is_claimed else f"{batch.status}, waits for a server"


def _counts(batch: Batch) -> dict[str, int]:
    from hokku.protocol.batches import OUTCOMES

    return {name: getattr(batch.counts, name) for name in ("processing", *OUTCOMES)}


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
