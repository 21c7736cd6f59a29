"""How much a workspace may use, and how much it has spent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select

from hokku.protocol.records import TOKEN_KINDS, LimitRule
from hokku.storage.database import Database
from hokku.storage.moments import to_micros
from hokku.storage.schema import limits, usage_days

_KEY = ("workspace_id", "model")
_LIMITS = [column.name for column in limits.columns if column.name not in _KEY]


class LimitStore:
    """The statements over `limits`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, rule: LimitRule) -> None:
        """Keep a rule in place of any other for the same workspace and model; one without a limit is forgotten."""
        key = {"workspace_id": rule.workspace_id or "", "model": rule.model or ""}
        values = {name: getattr(rule, name) for name in _LIMITS}
        with self._database.write() as connection:
            connection.execute(
                delete(limits).where(
                    limits.c.workspace_id == key["workspace_id"], limits.c.model == key["model"]
                )
            )
            if any(value is not None for value in values.values()):
                connection.execute(limits.insert().values(key | values))

    def rules(self) -> list[LimitRule]:
        """All of them."""
        with self._database.read() as connection:
            rows = connection.execute(select(limits).order_by(limits.c.workspace_id, limits.c.model))
            return [_rule(row) for row in rows]

    def spent(self, workspace_id: str | None, since: datetime) -> int:
        """Micro-cents that a workspace, or everybody, has spent on this and later days."""
        amounts = sum(usage_days.c[f"{kind}_micro_cents"] for kind in TOKEN_KINDS)
        wanted = [usage_days.c.start >= to_micros(since)]
        if workspace_id is not None:
            wanted.append(usage_days.c.workspace_id == workspace_id)
        with self._database.read() as connection:
            return int(connection.execute(select(func.sum(amounts)).where(*wanted)).scalar() or 0)


def _rule(row: Row[Any]) -> LimitRule:
    return LimitRule(
        workspace_id=row.workspace_id or None,
        model=row.model or None,
        **{name: row._mapping[name] for name in _LIMITS},
    )
