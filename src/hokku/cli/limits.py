"""`hokku limits`: how much workspaces may use."""

from __future__ import annotations

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
) -> None:
    """Put a rule in place of any other for the same workspace and model; without any number, take it away.

    \b
    Examples:
      hokku limits set everybody --requests 1000 --input-tokens 100000
      hokku limits set web-team --output-tokens 20000 --usd 50
      hokku limits set web-team
    """
    from hokku.app import open_storage
    from hokku.quotas.buckets import MAX_PER_MINUTE

    for limit in (requests, input_tokens, output_tokens):
        if limit is not None and limit > MAX_PER_MINUTE:
            raise BadSetting(f"must be at most {MAX_PER_MINUTE}, not {limit}", place="a limit")
    if usd is not None and of_model is not None:
        raise BadSetting("is for all models together", place="--usd", way_out="leave --of-model out")
    with open_storage(settings) as storage:
        workspace_id = None if owner == EVERYBODY else storage.keys.workspace(owner).id
        money = None if usd is None else _micro_cents(usd)
        storage.limits.put(LimitRule(workspace_id, of_model, requests, input_tokens, output_tokens, money))


@app.command("list")
@takes_settings("files")
def list_limits(settings: Settings) -> None:
    """Every rule."""
    from rich.console import Console
    from rich.table import Table

    from hokku.app import open_storage

    shown = Table(
        "Workspace", "Model", "Requests/min", "Input/min", "Output/min", "USD/month", box=None, pad_edge=False
    )
    with open_storage(settings) as storage:
        names = {each.id: each.name for each in storage.keys.workspaces()}
        for rule in storage.limits.rules():
            owner = (
                EVERYBODY if rule.workspace_id is None else names.get(rule.workspace_id, rule.workspace_id)
            )
            numbers = (rule.requests_per_minute, rule.input_tokens_per_minute, rule.output_tokens_per_minute)
            money = rule.micro_cents_per_month
            dollars = "" if money is None else f"{money / _MICRO_CENTS_OF_A_DOLLAR:.2f}"
            cells = ("" if number is None else f"{number:,}" for number in numbers)
            shown.add_row(owner, rule.model or "each", *cells, dollars)
    Console().print(shown)


def _micro_cents(text: str) -> int:
    try:
        amount = Decimal(text) * _MICRO_CENTS_OF_A_DOLLAR
        if not 0 <= amount < 2**62:
            raise ValueError
        return int(amount)
    except (InvalidOperation, ValueError) as cause:
        raise BadSetting(f"must be an amount of dollars, not {text!r}", place="--usd") from cause
