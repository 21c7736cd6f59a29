"""Never more than a bucket allows, on both back ends; levels are true and all takes happen together or not at all."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.protocol.errors import BadSetting, StorageUnavailable
from hokku.quotas.buckets import MAX_PER_MINUTE, Buckets, LocalBuckets, Take
from hokku.quotas.valkey import ValkeyBuckets
from tests.valkey import Valkey

MINUTE = 60_000_000


async def test_levels_fall_and_say_when_they_are_full(buckets: Buckets) -> None:
    before = datetime.now(UTC)
    taken = await buckets.take([Take("a", 100, 40), Take("b", 60, 0)])
    first, second = taken.levels
    assert taken.lacking is None
    assert (first.limit, first.remaining) == (100, 60)
    assert timedelta(seconds=23) < first.full_at - before < timedelta(seconds=34)
    assert (second.limit, second.remaining) == (60, 60)
    assert second.full_at - before < timedelta(seconds=10)


async def test_all_takes_or_none(buckets: Buckets) -> None:
    await buckets.take([Take("a", 100, 0), Take("b", 10, 9)])
    taken = await buckets.take([Take("a", 100, 50), Take("b", 10, 5)])
    assert taken.lacking == 1
    assert 1 <= taken.retry_after_secs <= 24
    assert taken.levels[0].remaining == 100
    assert taken.levels[1].remaining <= 2


async def test_more_than_a_bucket_holds_can_never_be_taken(buckets: Buckets) -> None:
    taken = await buckets.take([Take("a", 100, 101)])
    assert (taken.lacking, taken.retry_after_secs) == (0, 60)


async def test_settling_may_sink_a_level_and_never_overfills_it(buckets: Buckets) -> None:
    await buckets.take([Take("a", 6, 6)])
    (level,) = await buckets.settle([Take("a", 6, 6)])
    assert level.remaining == 0
    assert level.full_at - datetime.now(UTC) > timedelta(seconds=110)
    assert (await buckets.take([Take("a", 6, 1)])).retry_after_secs > 60
    (level,) = await buckets.settle([Take("a", 6, -100)])
    assert level.remaining == 6


async def test_a_changed_limit_counts_at_once(buckets: Buckets) -> None:
    await buckets.take([Take("a", 1_000, 10)])
    assert (await buckets.take([Take("a", 5, 0)])).levels[0].remaining == 5


async def test_limits_of_any_size(buckets: Buckets) -> None:
    taken = await buckets.take([Take("a", MAX_PER_MINUTE, MAX_PER_MINUTE - 1), Take("b", 1, 1)])
    assert [level.remaining for level in taken.levels] == [1, 0]


async def test_two_hundred_at_once_get_no_more_than_there_is(buckets: Buckets) -> None:
    async def client() -> int:
        num_taken = 0
        for _ in range(5):
            taken = await buckets.take([Take("requests", 300, 1), Take("tokens", 2_000, 7)])
            num_taken += taken.lacking is None
        return num_taken

    start = time.monotonic()
    num_taken = sum(await asyncio.gather(*(client() for _ in range(200))))
    elapsed = time.monotonic() - start
    assert 285 <= num_taken <= (2_000 + 2_000 * (elapsed + 0.1) / 60) / 7


async def test_two_processes_share(valkey: Valkey) -> None:
    one, other = ValkeyBuckets(valkey.url), ValkeyBuckets(valkey.url)
    await one._client.flushall()
    assert (await one.take([Take("a", 10, 6)])).lacking is None
    assert (await other.take([Take("a", 10, 6)])).lacking == 0
    await one.close()
    await other.close()


async def test_a_store_that_is_gone(tmp_path: Path) -> None:
    gone = ValkeyBuckets(f"unix://{tmp_path}/nobody")
    with pytest.raises(StorageUnavailable):
        await gone.take([Take("a", 1, 1)])
    await gone.close()
    with pytest.raises(BadSetting, match="is not a URL of a Valkey"):
        ValkeyBuckets("localhost")


@given(
    limit=st.integers(1, 1_000_000),
    steps=st.lists(st.tuples(st.integers(0, 2 * MINUTE), st.integers(0, 1_000_000)), min_size=1, max_size=30),
)
def test_over_any_span_no_more_than_the_bucket_and_its_refill(
    limit: int, steps: list[tuple[int, int]]
) -> None:
    now = 0
    buckets = LocalBuckets(lambda: now)
    taken: list[tuple[int, int]] = []

    async def run() -> None:
        nonlocal now
        for pause, amount in steps:
            now += pause
            if (await buckets.take([Take("a", limit, amount)])).lacking is None:
                taken.append((now, amount))

    asyncio.run(run())
    for first in range(len(taken)):
        total = 0
        for at, amount in taken[first:]:
            total += amount
            assert total * MINUTE <= limit * MINUTE + limit * (at - taken[first][0])


@given(limit=st.integers(1, 10_000), amount=st.integers(1, 10_000), level=st.integers(0, 10_000))
def test_retry_after_is_long_enough_and_not_much_longer(limit: int, amount: int, level: int) -> None:
    now = 0
    buckets = LocalBuckets(lambda: now)

    async def run() -> None:
        nonlocal now
        await buckets.settle([Take("a", limit, limit - min(level, limit))])
        refused = await buckets.take([Take("a", limit, amount)])
        if refused.lacking is None or amount > limit:
            return
        now += (refused.retry_after_secs - 2) * 1_000_000
        if refused.retry_after_secs > 2:
            assert (await buckets.take([Take("a", limit, amount)])).lacking == 0
        now += 2_000_000
        assert (await buckets.take([Take("a", limit, amount)])).lacking is None

    asyncio.run(run())
