"""`hokku limits`: how much workspaces may use."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from hokku.cli.options import takes_settings
from hokku.protocol.errors import BadSetting
from hokku.protocol.records import LimitRule
from hokku.settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Say how much workspaces may use: requests and tokens a minute, money a month. Servers follow within seconds.",
)

_MICRO_CENTS_OF_A_DOLLAR = 100_000_000
EVERYBODY = "everybody"
Owner = Annotated[str, typer.Argument(help="A workspace, by name or id, or 'everybody' together.")]


@app.command("set")
@takes_settings("files")
def set_limits(
    settings: Settings,
    owner: Owner,
    of_model: Annotated[
        str | None,
        typer.Option(
            "--of-model", metavar="ID", help="For this model; without it, for each that has no own rule."
        ),
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", min=1, help="Requests a minute.")] = None,
    input_tokens: Annotated[
        int | None, typer.Option("--input-tokens", min=1, help="Input tokens a minute.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option("--output-tokens", min=1, help="Output tokens a minute.")
    ] = None,
    usd: Annotated[
        str | None, typer.Option("--usd", metavar="AMOUNT", help="Dollars a month; not with --of-model.")
    ] = None,
    batch_calls: Annotated[
        int | None, typer.Option("--batch-calls", min=1, help="Calls of Message Batches a minute.")
    ] = None,
    file_calls: Annotated[
        int | None, typer.Option("--file-calls", min=1, help="Calls of the Files API a minute.")
    ] = None,
    count_calls: Annotated[
        int | None, typer.Option("--count-calls", min=1, help="Calls a minute that count tokens.")
    ] = None,
    queued: Annotated[
        int | None, typer.Option("--queued", min=1, help="Requests of batches that wait for a result.")
    ] = None,
) -> None:
    """Put a rule in place of any other for the same workspace and model; without any number, take it away.

    Dollars, calls and queued requests are for no model in particular: not with --of-model.

    \b
    Examples:
      hokku limits set everybody --requests 1000 --input-tokens 100000
      hokku limits set web-team --output-tokens 20000 --usd 50
      hokku limits set everybody --batch-calls 50 --queued 100000
      hokku limits set web-team
    """
    from hokku.app import open_storage
    from hokku.quotas.buckets import MAX_PER_MINUTE

    calls = {"--batch-calls": batch_calls, "--file-calls": file_calls, "--count-calls": count_calls}
    for limit in (requests, input_tokens, output_tokens, *calls.values(), queued):
        if limit is not None and limit > MAX_PER_MINUTE:
            raise BadSetting(f"must be at most {MAX_PER_MINUTE}, not {limit}", place="a limit")
    for option, limit_of_all in {"--usd": usd, **calls, "--queued": queued}.items():
        if limit_of_all is not None and of_model is not None:
            raise BadSetting("is for all models together", place=option, way_out="leave --of-model out")
    with open_storage(settings) as storage:
        workspace_id = None if owner == EVERYBODY else storage.keys.workspace(owner).id
        money = None if usd is None else _micro_cents(usd)
        storage.limits.put(
            LimitRule(
                workspace_id,
                of_model,
                requests_per_minute=requests,
                input_tokens_per_minute=input_tokens,
                output_tokens_per_minute=output_tokens,
                micro_cents_per_month=money,
                batch_calls_per_minute=batch_calls,
                file_calls_per_minute=file_calls,
                count_calls_per_minute=count_calls,
                queued_batch_requests=queued,
            )
        )


@app.command("list")
@takes_settings("files")
def list_limits(settings: Settings) -> None:
    """Every rule."""
    from rich.console import Console
    from rich.table import Table

    from hokku.app import open_storage

    with open_storage(settings) as storage:
        names = {each.id: each.name for each in storage.keys.workspaces()}
        rules = storage.limits.rules()
    # Only what some rule says, because all of it is wider than most terminals.
    columns = {name: each for name, each in _COLUMNS.items() if any(each(rule) for rule in rules)}
    shown = Table("Workspace", "Model", *columns, box=None, pad_edge=False)
    for rule in rules:
        owner = EVERYBODY if rule.workspace_id is None else names.get(rule.workspace_id, rule.workspace_id)
        shown.add_row(owner, rule.model or "each", *(each(rule) for each in columns.values()))
    Console().print(shown)


def _number(limit: int | None) -> str:
    return "" if limit is None else f"{limit:,}"


def _dollars(micro_cents: int | None) -> str:
    return "" if micro_cents is None else f"{micro_cents / _MICRO_CENTS_OF_A_DOLLAR:.2f}"


_COLUMNS: dict[str, Callable[[LimitRule], str]] = {
    "Requests/min": lambda rule: _number(rule.requests_per_minute),
    "Input/min": lambda rule: _number(rule.input_tokens_per_minute),
    "Output/min": lambda rule: _number(rule.output_tokens_per_minute),
    "USD/month": lambda rule: _dollars(rule.micro_cents_per_month),
    "Batches/min": lambda rule: _number(rule.batch_calls_per_minute),
    "Files/min": lambda rule: _number(rule.file_calls_per_minute),
    "Counts/min": lambda rule: _number(rule.count_calls_per_minute),
    "Queued": lambda rule: _number(rule.queued_batch_requests),
}


def _micro_cents(text: str) -> int:
    try:
        amount = Decimal(text) * _MICRO_CENTS_OF_A_DOLLAR
        if not 0 <= amount < 2**62:
            raise ValueError
        return int(amount)
    except (InvalidOperation, ValueError) as cause:
        raise BadSetting(f"must be an amount of dollars, not {text!r}", place="--usd") from cause
