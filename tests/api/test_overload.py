"""More requests than can be served: each gets its answer or a 529, and no work is done for nobody."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.protocol.errors import WaitedTooLong
from hokku.protocol.records import LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.service.booking import BookedReplies
from hokku.service.keys import Identity
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue, ServedModel
from hokku.service.rate_limits import RateLimits
from tests.api.conftest import HEADERS, client_of, services_of
from tests.api.test_body_errors import GOOD
from tests.engine.house import House, open_house
from tests.fakes import ALIAS, MODEL_ID, ByteCodec, FakeEngine, Script, fake_manifest
from tests.live import live_server
from tests.service.test_booking import Book
from tests.service.test_rate_limits import Rules

NUM_CLIENTS = 200
NUM_OUTPUT_TOKENS = 20
ALL = httpx.Limits(max_connections=None)
SENTENCE = "The request has waited 120 s for its turn"
OVERDUE = Script([], WaitedTooLong(SENTENCE), error_after=-1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_has_waited_too_long_is_a_529_that_costs_nothing(
    engine: FakeEngine, stream: bool
) -> None:
    engine.script = lambda _request: OVERDUE
    services, book = services_of(engine), Book()
    manifest_of = services.catalogue.manifest
    limits = RateLimits(Rules(LimitRule(None, None, 9, 1_000, 1_000)), LocalBuckets(lambda: 0), "org")
    limited = LimitedReplies(
        BookedReplies(MessagesService(services.catalogue), book, manifest_of), limits, manifest_of
    )
    async with client_of(replace(services, messages=limited)) as client:
        refused = await client.post("/v1/messages", json=GOOD | {"stream": stream})
    assert refused.status_code == 529
    assert refused.json()["error"] == {"type": "overloaded_error", "message": SENTENCE}
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("1", "true")
    (entry,) = book.entries
    assert entry.outcome == "errored"
    assert not any(entry.tokens.values())
    while limited._settling:
        await asyncio.sleep(0.001)
    levels = (await limits.admit(Identity(), MODEL_ID, 0, 0)).levels
    remaining = [
        level.remaining for level in (levels.requests, levels.input_tokens, levels.output_tokens) if level
    ]
    assert remaining == [9 - 2, 1_000, 1_000]  # the refused one, and this one


async def test_a_stream_that_has_begun_ends_with_an_error_event(engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([], starts=False)
    async with client_of(services_of(engine), ApiConfig(ping_interval_secs=0.01)) as client:
        asking = asyncio.create_task(client.post("/v1/messages", json=GOOD | {"stream": True}))
        while not engine.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # some pings
        engine._running[0].script = OVERDUE
        response = await asking
    assert response.status_code == 200
    events = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event")]
    assert (events[0], events[-1]) == ("ping", "error")
    assert '"overloaded_error"' in response.text


async def test_two_hundred_clients_of_a_slow_engine() -> None:
    """The clock of waiting counts the engine's steps, so that it is slow on every machine."""

    def num_steps() -> float:
        return len(house.program.batch_rows)

    with open_house(max_running=8, max_wait_secs=50, wait_clock=lambda: num_steps()) as house:
        manifest = fake_manifest()
        catalogue = Catalogue([manifest], {ALIAS: MODEL_ID})
        catalogue.put(ServedModel(manifest, ByteCodec(), house.engine))
        services = replace(services_of(None), catalogue=catalogue, messages=MessagesService(catalogue))
        with live_server(create_app(services, ApiConfig())) as url:
            crowd = asyncio.to_thread(house.during_step, lambda: wait_for_crowd(house))
            holding = asyncio.create_task(crowd)
            async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=60, limits=ALL) as client:
                ask = [asked(client, number) for number in range(NUM_CLIENTS)]
                responses = await asyncio.gather(*ask)
                await holding
                again = await asked(client, NUM_CLIENTS)
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 529}
    assert statuses.total() == NUM_CLIENTS
    for response in responses:
        if response.status_code == 529:
            assert response.json()["error"]["type"] == "overloaded_error"
            assert response.headers["retry-after"]
    served = [response for response in [*responses, again] if response.status_code == 200]
    assert again in served
    # Goodput: every row that was computed is in an answer that somebody has got.
    num_rows = sum(num_prompt_tokens_of(response) + NUM_OUTPUT_TOKENS - 1 for response in served)
    assert house.program.num_rows == num_rows + 1  # and the holder's


async def asked(client: httpx.AsyncClient, number: int) -> httpx.Response:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": str(number)}]}
    body |= {"model": ALIAS, "max_tokens": NUM_OUTPUT_TOKENS, "stream": number % 2 == 0}
    return await client.post("/v1/messages", json=body)


def wait_for_crowd(house: House) -> None:
    """Inside a step: go on once everybody waits."""
    deadline = time.monotonic() + 60
    while house.engine.stats().num_waiting < NUM_CLIENTS:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def num_prompt_tokens_of(response: httpx.Response) -> int:
    if response.headers["content-type"] == "application/json":
        usage = response.json()["usage"]
        assert usage["output_tokens"] == NUM_OUTPUT_TOKENS
        return int(usage["input_tokens"])
    assert f'"output_tokens":{NUM_OUTPUT_TOKENS}' in response.text.replace(" ", "")
    assert "message_stop" in response.text
    return int(response.text.replace(" ", "").split('"input_tokens":')[1].split(",")[0])
