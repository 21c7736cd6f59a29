"""The ledger: one row a request, never changed, and its sums by the hour and the day, made in the same transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    delete,
    func,
    literal,
    or_,
    select,
)

from hokku.protocol.batches import Batch, UnansweredOutcome
from hokku.protocol.records import (
    BUCKET_SECS,
    TOKEN_KINDS,
    BucketWidth,
    Dimension,
    LedgerEntry,
    TokenKind,
    UsageQuery,
    UsageSum,
)
from hokku.storage.database import Database, adding
from hokku.storage.moments import from_micros, to_micros
from hokku.storage.schema import batch_requests, ledger, usage_days, usage_hours

_MICROS = 1_000_000
_ROLL_UPS: Mapping[BucketWidth, Table] = {"1h": usage_hours, "1d": usage_days}
_AMOUNTS = [f"{kind}_{unit}" for unit in ("tokens", "micro_cents") for kind in TOKEN_KINDS]
_SUMMED = ("num_requests", *_AMOUNTS)
Values = Mapping[Any, Any]  # of one row, by column
_Group = tuple[int, str, str, str, str]  # start, workspace, key, model, tier


class LedgerStore:
    """The statements over `ledger` and its roll-ups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Book requests, all or none. An entry of a batch's request that is booked already is left out."""
        with self._database.write() as connection:
            self.append_within(connection, entries)

    def append_again(self, entries: Sequence[LedgerEntry]) -> None:
        """Book requests after an attempt of which nobody knows whether it was kept: a connection may be lost between a
        commit and the word of it. What is booked already is left out."""
        ids = [entry.request_id for entry in entries]
        since = min(to_micros(entry.at) for entry in entries)
        with self._database.write() as connection:
            found = select(ledger.c.request_id).where(ledger.c.at >= since, ledger.c.request_id.in_(ids))
            booked = set(connection.execute(found).scalars())
            self.append_within(connection, [entry for entry in entries if entry.request_id not in booked])

    def append_within(self, connection: Connection, entries: Sequence[LedgerEntry]) -> None:
        """Book requests in somebody else's transaction."""
        rows = [_row(entry) for entry in entries]
        plain = [row for row in rows if row["batch_id"] is None]
        if plain:
            connection.execute(ledger.insert(), plain)
        booked = plain + [
            row for row in rows if row["batch_id"] is not None and self._is_new(connection, row)
        ]
        self._roll_up(connection, booked)

    def append_unanswered(
        self, connection: Connection, batch: Batch, outcome: UnansweredOutcome, number: int, at: datetime
    ) -> None:
        """Book requests of a batch that have just ended like this, `number` of them, for nothing; in somebody else's
        transaction, and one statement for all."""
        row = _row(_unanswered(batch, outcome, at))
        del row["batch_position"]
        columns = [literal(value, ledger.c[name].type).label(name) for name, value in row.items()]
        ended_so = select(*columns, batch_requests.c.position).where(
            batch_requests.c.batch_id == batch.id, batch_requests.c.outcome == outcome
        )
        insert = self._database.insert(ledger).from_select([*row, "batch_position"], ended_so)
        # Those that ended like this before them are booked already.
        connection.execute(insert.on_conflict_do_nothing())
        self._roll_up(connection, [row], number)

    def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums by bucket and group, in this order; buckets and groups without a request are not there."""
        table, start = _source(query)
        groups = [table.c[name] for name in query.group_by]
        sums = [func.sum(_summed(table, name)).label(name) for name in _SUMMED]
        wanted = [start >= to_micros(query.starting_at), start < to_micros(query.ending_at)]
        wanted += [_one_of(table.c[name], values, table) for name, values in query.only.items()]
        statement = select(start.label("start"), *groups, *sums).where(*wanted)
        statement = statement.group_by("start", *groups).order_by("start", *groups)
        with self._database.read() as connection:
            return [_usage_sum(row, query.group_by) for row in connection.execute(statement)]

    def rebuild_roll_ups(self) -> None:
        """Make the sums anew from the ledger itself."""
        with self._database.write() as connection:
            for width, table in _ROLL_UPS.items():
                connection.execute(delete(table))
                names = [column.name for column in table.columns]
                connection.execute(table.insert().from_select(names, _sums_of_ledger(width)))

    def _is_new(self, connection: Connection, row: Values) -> bool:
        statement = self._database.insert(ledger).values(row).on_conflict_do_nothing()
        return connection.execute(statement.returning(ledger.c.id)).first() is not None

    def _roll_up(self, connection: Connection, rows: Sequence[Values], times: int = 1) -> None:
        """Add the rows to the sums, each of them so many times."""
        for width, table in _ROLL_UPS.items():
            # In order, so that two processes that add to the same rows never wait for each other in a circle.
            sums = [values for _, values in sorted(_sums(rows, BUCKET_SECS[width] * _MICROS, times).items())]
            if sums:
                keys, summed = list(table.primary_key), [table.c[name] for name in _SUMMED]
                connection.execute(adding(self._database.insert(table), keys, summed), sums)


def _row(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "at": to_micros(entry.at),
        "request_id": entry.request_id,
        "workspace_id": entry.workspace_id,
        "key_id": entry.key_id,
        "model": entry.model,
        "tier": entry.tier,
        "outcome": entry.outcome,
        **{f"{kind}_tokens": entry.tokens.get(kind, 0) for kind in TOKEN_KINDS},
        **{f"{kind}_micro_cents": entry.micro_cents.get(kind, 0) for kind in TOKEN_KINDS},
        "batch_id": entry.batch_id,
        "batch_position": entry.batch_position,
    }


def _unanswered(batch: Batch, outcome: UnansweredOutcome, at: datetime) -> LedgerEntry:
    """What is booked of each request that nobody has answered, but for its position."""
    return LedgerEntry(
        at=at,
        request_id="",
        workspace_id=batch.workspace_id,
        key_id=batch.key_id,
        model="",
        tier="batch",
        outcome=outcome,
        tokens={},
        micro_cents={},
        batch_id=batch.id,
    )


def _sums(rows: Iterable[Values], span: int, times: int) -> dict[_Group, dict[str, Any]]:
    """The rows' sums by group, each row so many times, as rows of a roll-up."""
    totals: defaultdict[_Group, list[int]] = defaultdict(lambda: [0] * len(_SUMMED))
    for row in rows:
        start = row["at"] - row["at"] % span
        group = (start, row["workspace_id"], row["key_id"] or "", row["model"], row["tier"])
        total = totals[group]
        total[0] += times
        for place, name in enumerate(_AMOUNTS, 1):
            total[place] += row[name] * times
    names = ("start", "workspace_id", "key_id", "model", "tier")
    return {
        group: dict(zip(names, group, strict=True)) | dict(zip(_SUMMED, total, strict=True))
        for group, total in totals.items()
    }


def _sums_of_ledger(width: BucketWidth) -> Select[Any]:
    """What a roll-up holds, in the order of its columns."""
    span = BUCKET_SECS[width] * _MICROS
    key_id = func.coalesce(ledger.c.key_id, "").label("key")
    groups = [(ledger.c.at - ledger.c.at % span).label("span"), ledger.c.workspace_id, key_id]
    groups += [ledger.c.model, ledger.c.tier]
    sums = [func.sum(_summed(ledger, name)) for name in _SUMMED]
    return select(*groups, *sums).group_by(
        "span", ledger.c.workspace_id, "key", ledger.c.model, ledger.c.tier
    )


def _source(query: UsageQuery) -> tuple[Table, ColumnElement[int]]:
    """The table to sum, and the bucket of a row of it."""
    roll_up = _ROLL_UPS.get(query.width)
    if roll_up is not None:
        return roll_up, cast(ColumnElement[int], roll_up.c.start)
    span = BUCKET_SECS[query.width] * _MICROS
    return ledger, ledger.c.at - ledger.c.at % span


def _summed(table: Table, name: str) -> Any:
    return 1 if table is ledger and name == "num_requests" else table.c[name]


def _one_of(column: Column[Any], values: Sequence[str | None], table: Table) -> ColumnElement[bool]:
    named = [value for value in values if value is not None]
    if None not in values:
        return column.in_(named)
    return or_(column.in_(named), column.is_(None) if table is ledger else column == "")


def _usage_sum(row: Row[Any], group_by: Sequence[Dimension]) -> UsageSum:
    values = row._mapping
    return UsageSum(
        starting_at=from_micros(values["start"]),
        group={name: values[name] or None for name in group_by},
        num_requests=int(values["num_requests"]),
        tokens=dict(_amounts(values, "tokens")),
        micro_cents=dict(_amounts(values, "micro_cents")),
    )


def _amounts(values: Values, unit: str) -> Iterator[tuple[TokenKind, int]]:
    # PostgreSQL's sum of bigints is a numeric.
    return ((kind, int(values[f"{kind}_{unit}"])) for kind in TOKEN_KINDS)
