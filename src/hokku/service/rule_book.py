"""The operator's rules, read once a second at most, and whether the month's money is spent (wire.md section 10)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol

from hokku.protocol.errors import InvalidRequest
from hokku.protocol.records import LimitRule
from hokku.service.keys import Identity

_RULES_KEPT_SECS = 1.0  # how long a changed rule may take to be noticed
_SPENT_KEPT_SECS = 5.0


class Rules(Protocol):
    """The operator's rules, and what has been spent. Blocks."""

    def rules(self) -> list[LimitRule]:
        """All of them. Raises `StorageUnavailable`."""

    def spent(self, workspace_id: str | None, since: datetime) -> int:
        """Micro-cents of a workspace, or of everybody. Raises `StorageUnavailable`."""


class OpensRules(Protocol):
    """Opens the rules when they are first needed."""

    @property
    def may_have_limits(self) -> bool:
        """False where it is known without opening anything that there are no rules."""

    @property
    def limits(self) -> Rules:
        """The opened rules. Raises `StorageUnavailable`."""


class RuleBook:
    """What applies to whom. Used on one event loop."""

    def __init__(self, storage: OpensRules) -> None:
        self._storage = storage
        self._rules: dict[tuple[str | None, str | None], LimitRule] = {}
        self._rules_read_at = -_RULES_KEPT_SECS
        self._reading = asyncio.Lock()
        self._spent: dict[str | None, tuple[float, int]] = {}

    async def refresh(self) -> None:
        """Notice what has changed; nothing is asked that was asked within the last second. Raises
        `StorageUnavailable`."""
        if not self._storage.may_have_limits:
            return
        async with self._reading:  # one reads, those who come meanwhile wait for the same
            if time.monotonic() - self._rules_read_at >= _RULES_KEPT_SECS:
                rules = await asyncio.to_thread(lambda: self._storage.limits.rules())
                self._rules = {(rule.workspace_id, rule.model): rule for rule in rules}
                self._rules_read_at = time.monotonic()

    def applying(self, workspace_id: str, model_id: str | None) -> Iterator[LimitRule]:
        """The workspace's rule and everybody's: for a model, and else for what is not one model's."""
        for owner in (workspace_id, None):
            rule = self._rules.get((owner, model_id)) or self._rules.get((owner, None))
            if rule is not None:
                yield rule

    async def refuse_spent(self, identity: Identity) -> None:
        """Raises `InvalidRequest` where the month's money is spent, the workspace's or everybody's, and
        `StorageUnavailable`."""
        await self.refresh()
        for rule in self.applying(identity.workspace_id, None):
            if rule.micro_cents_per_month is None:
                continue
            if await self._spent_by(rule.workspace_id) >= rule.micro_cents_per_month:
                whose = "API" if rule.workspace_id is None else "workspace API"
                raise InvalidRequest(
                    f"You have reached your specified {whose} usage limits. You will regain access on "
                    f"{_next_month(datetime.now(UTC)).date()} at 00:00 UTC."
                )

    async def _spent_by(self, owner: str | None) -> int:
        read_at, spent = self._spent.get(owner, (-_SPENT_KEPT_SECS, 0))
        if time.monotonic() - read_at >= _SPENT_KEPT_SECS:
            since = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            spent = await asyncio.to_thread(lambda: self._storage.limits.spent(owner, since))
            self._spent[owner] = (time.monotonic(), spent)
        return spent


def _next_month(now: datetime) -> datetime:
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)
