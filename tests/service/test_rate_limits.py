"""Requests are let in as far as the rules allow, and settle for what they used."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from hokku.protocol.errors import InvalidRequest, RateLimited
from hokku.protocol.events import Usage
from hokku.protocol.records import LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.service.keys import Identity
from hokku.service.rate_limits import RateLimits

ME = Identity("wrkspc_1")
OTHER = Identity("wrkspc_2")
MODEL = "haiku"


class Rules:
    def __init__(self, *rules: LimitRule, spent: int = 0) -> None:
        self._rules = list(rules)
        self._spent = spent
        self.asked: list[tuple[str | None, datetime]] = []

    may_have_limits = True

    @property
    def limits(self) -> Rules:
        return self

    def rules(self) -> list[LimitRule]:
        return self._rules

    def spent(self, workspace_id: str | None, since: datetime) -> int:
        self.asked.append((workspace_id, since))
        return self._spent


def limits_of(*rules: LimitRule, spent: int = 0) -> RateLimits:
    now = 0  # time stands still
    return RateLimits(Rules(*rules, spent=spent), LocalBuckets(lambda: now), "org")


async def test_without_rules_everything_is_let_in() -> None:
    limits = limits_of()
    assert not await limits.limits_input(ME, MODEL)
    permit = await limits.admit(ME, MODEL, 10**6, 10**6)
    assert permit.levels.requests is None
    await permit.settle(Usage(1, 1))


async def test_requests_a_minute() -> None:
    limits = limits_of(LimitRule("wrkspc_1", None, requests_per_minute=2))
    first = await limits.admit(ME, MODEL, 1, 1)
    assert first.levels.requests is not None
    assert (first.levels.requests.limit, first.levels.requests.remaining) == (2, 1)
    await limits.admit(ME, MODEL, 1, 1)
    with pytest.raises(
        RateLimited, match="workspace's rate limit of 2 requests per minute .org: org, model: haiku"
    ):
        await limits.admit(ME, MODEL, 1, 1)
    await limits.admit(OTHER, MODEL, 1, 1)
    await limits.admit(ME, "another", 1, 1)


async def test_the_whole_prompt_counts_and_an_unused_reservation_comes_back() -> None:
    limits = limits_of(LimitRule(None, None, input_tokens_per_minute=100, output_tokens_per_minute=50))
    assert await limits.limits_input(ME, MODEL)
    permit = await limits.admit(ME, MODEL, 60, 40)
    with pytest.raises(RateLimited, match="organization's rate limit of 50 output tokens") as refusal:
        await limits.admit(OTHER, MODEL, 10, 20)
    assert refusal.value.retry_after_secs == 12
    assert refusal.value.levels is not None
    assert refusal.value.levels.input_tokens is not None
    assert refusal.value.levels.input_tokens.remaining == 40
    usage = Usage(10, 5, cache_read_tokens=50)
    await permit.settle(usage)
    await permit.settle(usage)
    again = await limits.admit(OTHER, MODEL, 40, 45)
    assert again.levels.output_tokens is not None
    assert again.levels.output_tokens.remaining == 0
    with pytest.raises(RateLimited, match="100 input tokens"):
        await limits.admit(ME, MODEL, 1, 0)


async def test_a_model_s_own_rule_takes_the_place_of_the_general_one() -> None:
    limits = limits_of(
        LimitRule("wrkspc_1", None, requests_per_minute=1),
        LimitRule("wrkspc_1", MODEL, requests_per_minute=5),
    )
    permit = await limits.admit(ME, MODEL, 1, 1)
    assert permit.levels.requests is not None
    assert permit.levels.requests.limit == 5


async def test_the_tightest_level_is_shown() -> None:
    limits = limits_of(
        LimitRule("wrkspc_1", None, requests_per_minute=5), LimitRule(None, None, requests_per_minute=3)
    )
    permit = await limits.admit(ME, MODEL, 1, 1)
    assert permit.levels.requests is not None
    assert permit.levels.requests.limit == 3


async def test_a_reply_that_may_be_longer_than_the_bucket_is_let_in_once_it_is_full() -> None:
    limits = limits_of(LimitRule("wrkspc_1", None, output_tokens_per_minute=100))
    permit = await limits.admit(ME, MODEL, 1, 8_192)
    await permit.settle(Usage(1, 300))
    with pytest.raises(RateLimited) as refusal:
        await limits.admit(ME, MODEL, 1, 1)
    assert refusal.value.retry_after_secs == 121  # 200 below nothing, and one more


@pytest.mark.parametrize(
    ("owner", "words"),
    [("wrkspc_1", "specified workspace API usage limits"), (None, "specified API usage limits")],
)
async def test_a_month_s_money(owner: str | None, words: str) -> None:
    rule = LimitRule(owner, None, micro_cents_per_month=1_000)
    await limits_of(rule, spent=999).admit(ME, MODEL, 1, 1)
    with pytest.raises(InvalidRequest, match=f"You have reached your {words}.*at 00:00 UTC"):
        await limits_of(rule, spent=1_000).admit(ME, MODEL, 1, 1)


async def test_two_hundred_clients_get_no_more_than_there_is() -> None:
    limits = limits_of(LimitRule(None, None, requests_per_minute=50, input_tokens_per_minute=400))

    async def client(number: int) -> int:
        try:
            permit = await limits.admit(ME if number % 2 else OTHER, MODEL, 10, 10)
        except RateLimited:
            return 0
        await asyncio.sleep(0)
        await permit.settle(Usage(10, 3))
        return 1

    assert sum(await asyncio.gather(*map(client, range(200)))) == 40
