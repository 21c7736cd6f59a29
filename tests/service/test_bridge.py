"""The bridge: rounds of readers, tokens that gather in between, and what waits for nobody."""

from __future__ import annotations

import asyncio

import pytest

from hokku.protocol.engine import Finished, FinishReason, Started, Tokens
from hokku.service import bridge as bridge_module
from hokku.service.bridge import Arrivals, Inbox, LoopBridge

END = Finished(FinishReason.MAX_TOKENS)


@pytest.fixture
async def bridge() -> LoopBridge:
    return LoopBridge(asyncio.get_running_loop())


@pytest.fixture
def _long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_module, "SECS_A_READER", 60.0)


async def read(inbox: Inbox) -> Arrivals:
    """What an inbox has, which must be ready."""
    return await asyncio.wait_for(inbox.take(), timeout=10)


async def settle() -> None:
    """Let everything run that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def begin(inbox: Inbox) -> None:
    """Bring an inbox to where its tokens may wait: a round has just been held."""
    for token_id in (1, 2):
        inbox.sink(Tokens((token_id,)))
        assert (await read(inbox)).token_ids == [token_id]


@pytest.mark.usefixtures("_long_pauses")
async def test_tokens_gather_between_two_rounds(bridge: LoopBridge) -> None:
    inbox = Inbox(bridge)
    await begin(inbox)
    reading = asyncio.create_task(inbox.take())
    for token_id in (3, 4, 5):
        inbox.sink(Tokens((token_id,)))
        await settle()
    assert not reading.done()
    inbox.sink(END)
    assert await reading == Arrivals(None, [3, 4, 5], END)


@pytest.mark.usefixtures("_long_pauses")
async def test_a_reader_that_comes_late_waits_for_the_round_as_well(bridge: LoopBridge) -> None:
    inbox = Inbox(bridge)
    await begin(inbox)
    inbox.sink(Tokens((3,)))
    await settle()
    reading = asyncio.create_task(inbox.take())
    await settle()
    assert not reading.done()
    inbox.sink(END)
    assert (await reading).token_ids == [3]


@pytest.mark.usefixtures("_long_pauses")
async def test_a_newcomer_waits_for_nobody(bridge: LoopBridge) -> None:
    await begin(Inbox(bridge))
    newcomer = Inbox(bridge)
    newcomer.sink(Started(0))
    assert (await read(newcomer)).started == Started(0)
    newcomer.sink(Tokens((7,)))
    assert (await read(newcomer)).token_ids == [7]


@pytest.mark.usefixtures("_long_pauses")
async def test_an_impatient_reader_sees_every_step(bridge: LoopBridge) -> None:
    await begin(Inbox(bridge))
    inbox = Inbox(bridge, is_patient=False)
    for token_id in range(5):
        inbox.sink(Tokens((token_id,)))
        assert (await read(inbox)).token_ids == [token_id]


async def test_tokens_that_no_step_follows_are_read_all_the_same(bridge: LoopBridge) -> None:
    inboxes = [Inbox(bridge) for _ in range(20)]
    await asyncio.gather(*map(begin, inboxes))
    for inbox in inboxes:
        inbox.sink(Tokens((3,)))
    for inbox in inboxes:
        assert (await read(inbox)).token_ids == [3]


async def test_who_waits_for_the_end_is_woken_once(bridge: LoopBridge) -> None:
    inbox = Inbox(bridge)
    inbox.waits_for_end = True
    reading = asyncio.create_task(inbox.take())
    for event in (Started(0), Tokens((1,)), Tokens((2, 3))):
        inbox.sink(event)
        await settle()
    assert not reading.done()
    inbox.sink(END)
    assert await reading == Arrivals(Started(0), [1, 2, 3], END)
    assert bridge.num_wakeups == 1


async def test_tokens_that_wait_for_the_end_do_not_pile_up_as_events(bridge: LoopBridge) -> None:
    inbox = Inbox(bridge)
    inbox.waits_for_end = True
    reading = asyncio.create_task(inbox.take())
    for token_id in range(2 * bridge_module.MAX_QUEUED):
        inbox.sink(Tokens((token_id,)))
    await settle()
    assert bridge.num_wakeups == 1
    inbox.sink(END)
    assert (await reading).token_ids == list(range(2 * bridge_module.MAX_QUEUED))


async def test_a_wait_ends_after_its_time_and_not_before(bridge: LoopBridge) -> None:
    inbox, loop = Inbox(bridge, is_patient=False), asyncio.get_running_loop()
    for token_id in range(10):
        reading = asyncio.create_task(inbox.take(timeout_secs=0.05))
        await asyncio.sleep(0.01)
        inbox.sink(Tokens((token_id,)))
        assert (await reading).token_ids == [token_id]
    began = loop.time()
    assert not await inbox.take(timeout_secs=0.05)
    assert loop.time() - began >= 0.049


async def test_no_timer_outlives_the_reply(bridge: LoopBridge) -> None:
    inbox = Inbox(bridge)
    reading = asyncio.create_task(inbox.take(timeout_secs=1000))
    await settle()
    timer = inbox._timer
    assert timer is not None
    inbox.sink(END)
    await reading
    assert timer.cancelled()
    assert inbox._timer is None


async def test_one_wakeup_a_step(bridge: LoopBridge) -> None:
    """Sixteen streams in step with each other wake the loop as often as one would."""
    inboxes = [Inbox(bridge) for _ in range(16)]
    for step in range(1, 6):
        for inbox in inboxes:
            inbox.sink(Tokens((65,)))
        await asyncio.sleep(0)
        assert bridge.num_wakeups == step
    assert [len((await inbox.take()).token_ids) for inbox in inboxes] == [5] * 16
