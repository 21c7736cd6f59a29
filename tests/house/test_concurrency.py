"""Many at once, on the default model through HTTP: nothing malformed, nothing leaked."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable

import anthropic
import pytest
from anthropic.types import RawMessageStreamEvent

from hokku.engine.engine import LocalEngine
from tests.house.server import RealServer

pytestmark = pytest.mark.model

MODEL = "claude-3-5-haiku-20241022"


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Poll; the engine ends things at its next step, not in the caller's."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_idle(engine: LocalEngine) -> bool:
    """Nothing runs or waits, and every page is free or reclaimable."""
    stats = engine.stats()
    held = stats.num_pages - stats.num_pages_free - stats.num_pages_cached
    return (stats.num_running, stats.num_waiting, held) == (0, 0, 0)


def check_order(events: list[RawMessageStreamEvent]) -> None:
    """One well-formed stream (wire.md section 3.2)."""
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds[1] == "content_block_start"
    assert kinds[-3] == "content_block_stop"
    assert set(kinds[2:-3]) <= {"content_block_delta", "ping"}


async def test_64_streams_at_once_are_each_well_formed(real_server: RealServer) -> None:
    client = anthropic.AsyncAnthropic(api_key=real_server.key, base_url=real_server.url, max_retries=0)

    async def stream(number: int) -> str:
        reply = await client.messages.create(
            model=MODEL,
            max_tokens=24,
            stream=True,
            messages=[{"role": "user", "content": f"Tell me something about the number {number}."}],
        )
        events = [event async for event in reply]
        check_order(events)
        return "".join(
            event.delta.text
            for event in events
            if event.type == "content_block_delta" and event.delta.type == "text_delta"
        )

    texts = await asyncio.gather(*(stream(number) for number in range(64)))
    await client.close()
    assert all(texts)
    assert len(set(texts)) > 32
    assert wait_until(lambda: is_idle(real_server.engine))


def test_a_client_that_leaves_frees_its_pages_within_a_step(real_server: RealServer) -> None:
    client = anthropic.Anthropic(api_key=real_server.key, base_url=real_server.url, max_retries=0)
    ask = "Write a very long story about the sea, with as many chapters as you can."
    with client.messages.stream(
        model=MODEL, max_tokens=4000, messages=[{"role": "user", "content": ask}]
    ) as stream:
        for _ in zip(range(4), stream.text_stream, strict=False):
            pass
        assert real_server.engine.stats().num_running == 1
        num_steps = real_server.engine.stats().num_steps
    assert wait_until(lambda: is_idle(real_server.engine))
    # It did not run on to its 4,000 tokens. That the engine itself needs one step is shown in tests/engine.
    assert real_server.engine.stats().num_steps - num_steps < 2000
    client.close()


@pytest.mark.slow
async def test_after_1000_mixed_requests_nothing_is_leaked(real_server: RealServer) -> None:
    client = anthropic.AsyncAnthropic(
        api_key=real_server.key, base_url=real_server.url, max_retries=0, timeout=120
    )
    chance = random.Random(7)
    slots = asyncio.Semaphore(48)
    threads_before = threading.active_count()

    async def one(number: int) -> str:
        kind = chance.choice(["whole", "streamed", "abandoned", "count", "refused"])
        content = f"{number}: " + "word " * chance.randrange(1, 60)
        async with slots:
            match kind:
                case "whole":
                    reply = await client.messages.create(
                        model=MODEL,
                        max_tokens=chance.randrange(1, 12),
                        messages=[{"role": "user", "content": content}],
                    )
                    assert reply.usage.output_tokens >= 1
                case "streamed" | "abandoned":
                    async with client.messages.stream(
                        model=MODEL, max_tokens=12, messages=[{"role": "user", "content": content}]
                    ) as stream:
                        async for _ in stream.text_stream:
                            if kind == "abandoned":
                                break
                case "count":
                    counted = await client.messages.count_tokens(
                        model=MODEL, messages=[{"role": "user", "content": content}]
                    )
                    assert counted.input_tokens > 5
                case _:
                    with pytest.raises(anthropic.BadRequestError):
                        await client.messages.create(
                            model=MODEL, max_tokens=9000, messages=[{"role": "user", "content": content}]
                        )
        return kind

    kinds = await asyncio.gather(*(one(number) for number in range(1000)))
    await client.close()
    assert len(set(kinds)) == 5
    assert wait_until(lambda: is_idle(real_server.engine))
    # The event loop's small pool of helper threads may have filled up; a leak would be one a request.
    assert threading.active_count() <= threads_before + 8
