"""How much may come in (wire.md section 10): requests, input tokens and output tokens a minute, and money a month.

A request takes one from the bucket of requests, its whole prompt from that of input tokens (cached or not, as the
hosted service counted for this model) and reserves `max_tokens` from that of output tokens. At its end what it did not
write is given back. Rules of the workspace and of everybody together both hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hokku.protocol.errors import RateLimited
from hokku.protocol.events import Usage
from hokku.protocol.records import Level, RateLevels
from hokku.quotas.buckets import Buckets, Take
from hokku.service.keys import Identity
from hokku.service.rule_book import OpensRules, RuleBook

_SUBJECTS = ("requests", "input tokens", "output tokens")
Kind = int  # a place in _SUBJECTS


@dataclass(frozen=True, slots=True)
class _Bucket:
    kind: Kind
    key: str
    per_minute: int
    is_everybodys: bool

    def take(self, amount: int) -> Take:
        return Take(self.key, self.per_minute, amount)


class Permit:
    """What one request has taken. `settle` once it has ended."""

    def __init__(self, buckets: Buckets, taken: Sequence[tuple[_Bucket, int]], levels: RateLevels) -> None:
        self.levels = levels
        self._buckets = buckets
        self._taken = taken
        self._is_settled = False

    async def settle(self, usage: Usage) -> None:
        """Give back what was reserved and not used. A second call does nothing."""
        if self._is_settled:
            return
        self._is_settled = True
        used = (1, usage.prompt_tokens, usage.output_tokens)
        corrections = [
            bucket.take(used[bucket.kind] - amount)
            for bucket, amount in self._taken
            if used[bucket.kind] != amount
        ]
        if corrections:
            await self._buckets.settle(corrections)


class RateLimits:
    """Lets requests in as far as the rules allow.

    Args:
        organization_id: for the sentences of refusals.
    """

    def __init__(self, storage: OpensRules, buckets: Buckets, organization_id: str) -> None:
        self._rules = RuleBook(storage)
        self._buckets = buckets
        self._organization_id = organization_id

    async def limits_input(self, identity: Identity, model_id: str) -> bool:
        """Whether the number of tokens in the prompt matters, so that somebody has to count them."""
        await self._rules.refresh()
        return any(bucket.kind == 1 for bucket in self._applying(identity.workspace_id, model_id))

    async def admit(
        self, identity: Identity, model_id: str, num_prompt_tokens: int, max_tokens: int
    ) -> Permit:
        """Take what the request needs.

        Raises:
            RateLimited: a bucket has too little; says which and for how long.
            InvalidRequest: the month's money is spent.
            StorageUnavailable: the rules or the levels cannot be read.
        """
        await self._rules.refuse_spent(identity)
        buckets = list(self._applying(identity.workspace_id, model_id))
        wanted = (1, num_prompt_tokens, max_tokens)
        # A reply that may be longer than the bucket could never be let in; it sinks the level below nothing instead.
        amounts = [
            wanted[each.kind] if each.kind != 2 else min(max_tokens, each.per_minute) for each in buckets
        ]
        taken = await self._buckets.take(
            [each.take(amount) for each, amount in zip(buckets, amounts, strict=True)]
        )
        levels = _tightest(buckets, taken.levels)
        if taken.lacking is not None:
            raise self._refusal(buckets[taken.lacking], model_id, taken.retry_after_secs, levels)
        return Permit(self._buckets, list(zip(buckets, amounts, strict=True)), levels)

    def _applying(self, workspace_id: str, model_id: str) -> Iterator[_Bucket]:
        for rule in self._rules.applying(workspace_id, model_id):
            owner = rule.workspace_id
            limits = (rule.requests_per_minute, rule.input_tokens_per_minute, rule.output_tokens_per_minute)
            for kind, limit in enumerate(limits):
                if limit is not None:
                    yield _Bucket(kind, f"{owner or '*'}/{model_id}/{kind}", limit, owner is None)

    def _refusal(self, bucket: _Bucket, model_id: str, secs: int, levels: RateLevels) -> RateLimited:
        whose = "organization" if bucket.is_everybodys else "workspace"
        return RateLimited(
            f"This request would exceed your {whose}'s rate limit of {bucket.per_minute:,} {_SUBJECTS[bucket.kind]} "
            f"per minute (org: {self._organization_id}, model: {model_id}). You can see the response headers for "
            "current usage. Please reduce the prompt length or the maximum tokens requested, or try again later.",
            retry_after_secs=secs,
            levels=levels,
        )


def _tightest(buckets: Sequence[_Bucket], levels: Sequence[Level]) -> RateLevels:
    by_kind: list[Level | None] = [None, None, None]
    for bucket, level in zip(buckets, levels, strict=True):
        known = by_kind[bucket.kind]
        if known is None or level.remaining < known.remaining:
            by_kind[bucket.kind] = level
    return RateLevels(*by_kind)
