"""How often the endpoints beside Messages may be called (wire.md sections 4, 5.5 and 8).

Each group of them has a bucket of its own, whichever models there are; what replies use is counted elsewhere
(`rate_limits.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from hokku.protocol.errors import RateLimited
from hokku.protocol.records import LimitRule, RateLevels
from hokku.quotas.buckets import Buckets, Take
from hokku.service.keys import Identity
from hokku.service.rule_book import OpensRules, RuleBook


class Calls(StrEnum):
    """A group of endpoints, in the words of refusals."""

    BATCHES = "Message Batches"
    FILES = "Files"
    COUNTING = "token counting"


_LIMIT_OF: Mapping[Calls, Callable[[LimitRule], int | None]] = {
    Calls.BATCHES: lambda rule: rule.batch_calls_per_minute,
    Calls.FILES: lambda rule: rule.file_calls_per_minute,
    Calls.COUNTING: lambda rule: rule.count_calls_per_minute,
}


class CallLimits:
    """Lets calls in as far as the rules allow.

    Args:
        organization_id: for the sentences of refusals.
    """

    def __init__(self, storage: OpensRules, buckets: Buckets, organization_id: str) -> None:
        self._rules = RuleBook(storage)
        self._buckets = buckets
        self._organization_id = organization_id

    async def admit(self, identity: Identity, calls: Calls) -> RateLevels:
        """Take one call.

        Raises:
            RateLimited: there were too many within the last minute.
            StorageUnavailable: the rules or the levels cannot be read.
        """
        await self._rules.refresh()
        # An empty model: no bucket of replies has that name.
        takes = [
            Take(f"{rule.workspace_id or '*'}//{calls.name}", limit, 1)
            for rule in self._rules.applying(identity.workspace_id, None)
            if (limit := _LIMIT_OF[calls](rule)) is not None
        ]
        if not takes:
            return RateLevels()
        taken = await self._buckets.take(takes)
        levels = RateLevels(min(taken.levels, key=lambda level: level.remaining))
        if taken.lacking is None:
            return levels
        take = takes[taken.lacking]
        whose = "organization" if take.key.startswith("*") else "workspace"
        raise RateLimited(
            f"This request would exceed your {whose}'s rate limit of {take.per_minute:,} {calls} requests per minute "
            f"(org: {self._organization_id}). You can see the response headers for current usage. Please try again "
            "later.",
            retry_after_secs=taken.retry_after_secs,
            levels=levels,
        )

    async def refuse_spent(self, identity: Identity) -> None:
        """Raises `InvalidRequest` where the month's money is spent, as it would for a message."""
        await self._rules.refuse_spent(identity)
