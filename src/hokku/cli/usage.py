"""`hokku usage`: what was used and what it cost, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hokku.cli.options import takes_settings
from hokku.protocol.errors import BadSetting
from hokku.protocol.records import Dimension, UsageQuery, UsageSum
from hokku.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

_DIMENSIONS: dict[str, Dimension] = {
    "workspace": "workspace_id",
    "key": "key_id",
    "model": "model",
    "tier": "tier",
}
_NAMELESS = {"key": "settings", "model": "none"}  # keys of the settings; requests that came to no model
_MICRO_CENTS_OF_A_DOLLAR = 100_000_000
_PLOT_WIDTH = 40


@takes_settings("files")
def usage(
    settings: Settings,
    days: Annotated[
        int, typer.Option("--days", min=1, max=366, help="How many days back, today included.")
    ] = 7,
    by: Annotated[
        str, typer.Option("--by", metavar="day|workspace|key|model|tier", help="What each line sums up.")
    ] = "day",
) -> None:
    """Requests, tokens and cost from the ledger, and what the hosted service would have asked for the same tokens.

    \b
    Examples:
      hokku usage
      hokku usage --days 30 --by workspace
      hokku usage --by model
    """
    from rich.console import Console

    from hokku.app import open_storage

    if by != "day" and by not in _DIMENSIONS:
        raise BadSetting(f"must be day, {', '.join(_DIMENSIONS)}, not {by!r}", place="--by")
    query = _query(days, _DIMENSIONS.get(by))
    with open_storage(settings) as storage:
        sums = storage.ledger.usage(query)
    if not sums:
        print(f"no requests since {query.starting_at.date()}")
        return
    lines: dict[str, list[UsageSum]] = {}
    for total in sums:
        lines.setdefault(_label(total, by), []).append(total)
    Console().print(_table(by, lines))


def _query(days: int, dimension: Dimension | None) -> UsageQuery:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # The tier is always asked for, because a batch's tokens have prices of their own.
    asked = dict.fromkeys(each for each in (dimension, "tier") if each is not None)
    return UsageQuery(
        today - timedelta(days=days - 1),
        today + timedelta(days=1),
        "1d",
        cast(tuple[Dimension, ...], tuple(asked)),
    )


def _label(total: UsageSum, by: str) -> str:
    if by == "day":
        return total.starting_at.date().isoformat()
    return total.group[_DIMENSIONS[by]] or _NAMELESS[by]


def _table(by: str, lines: dict[str, list[UsageSum]]) -> Table:
    from rich.bar import Bar
    from rich.table import Column, Table

    from hokku.service.reports import hosted_cost

    numbers = ("Requests", "Input", "Written", "Read", "Output", "USD", "Hosted USD")
    columns = [Column(name, justify="right") for name in numbers]
    shown = Table(by.capitalize(), *columns, Column("Tokens", width=_PLOT_WIDTH), box=None, pad_edge=False)
    most = max(_num_tokens(sums) for sums in lines.values())
    for label, sums in lines.items():
        own = sum(sum(each.micro_cents.values()) for each in sums)
        hosted = sum(sum(hosted_cost(each).values()) for each in sums)
        shown.add_row(
            label,
            f"{sum(each.num_requests for each in sums):,}",
            f"{sum(each.tokens['input'] for each in sums):,}",
            f"{sum(each.tokens['cache_write_5m'] + each.tokens['cache_write_1h'] for each in sums):,}",
            f"{sum(each.tokens['cache_read'] for each in sums):,}",
            f"{sum(each.tokens['output'] for each in sums):,}",
            f"{own / _MICRO_CENTS_OF_A_DOLLAR:.4f}",
            f"{hosted / _MICRO_CENTS_OF_A_DOLLAR:.4f}",
            Bar(max(most, 1), 0, _num_tokens(sums), width=_PLOT_WIDTH),
        )
    return shown


def _num_tokens(sums: Sequence[UsageSum]) -> int:
    return sum(sum(each.tokens.values()) for each in sums)
