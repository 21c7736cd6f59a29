"""The service without any wire: what it submits, how it seeds, what it counts, and how it lets go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hokku.protocol.engine import GenerationRequest, Sampling
from hokku.protocol.errors import InvalidRequest, NotFound, Overloaded
from hokku.protocol.events import BlockStart, BlockStop, ReplyEnd, ReplyStart, TextDelta, fold
from hokku.protocol.messages import Conversation, MessagesRequest, SamplingParameters, TextPart, Turn
from hokku.service.keys import Identity, KeyRing, hash_key
from hokku.service.messages import MAX_INLINE_CHARS, MessagesConfig, MessagesService, SamplingSeed, seed_of
from hokku.service.models import Catalogue
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, Script, fake_manifest, fake_model

ME = Identity("wrkspc_mine")


def conversation(text: str = "Hi") -> Conversation:
    return Conversation((), (Turn("user", (TextPart(text),)),))


REQUEST = MessagesRequest(ALIAS, conversation(), max_tokens=100)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


def service_of(
    engine: FakeEngine,
    config: MessagesConfig | None = None,
    sampling: SamplingParameters = SamplingParameters(),  # noqa: B008 - a frozen value
) -> MessagesService:
    manifest = replace(fake_manifest(), sampling=sampling)
    catalogue = Catalogue([manifest], {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine, manifest))
    return MessagesService(catalogue, config)


async def test_events_of_a_reply(engine: FakeEngine) -> None:
    engine.step_secs = 0.002  # a delta a token
    stream = await service_of(engine).reply(REQUEST, ME)
    events = [event async for event in stream]
    assert isinstance(events[0], ReplyStart)
    assert isinstance(events[1], BlockStart)
    assert all(isinstance(event, TextDelta) for event in events[2:-2])
    assert isinstance(events[-2], BlockStop)
    assert isinstance(events[-1], ReplyEnd)
    assert fold(events).usage == stream.usage


async def test_what_the_engine_is_asked(engine: FakeEngine) -> None:
    request = replace(REQUEST, sampling=SamplingParameters(0.3, 0.8, 5))
    async for _ in await service_of(engine).reply(request, ME):
        pass
    (asked,) = engine.requests
    seed = asked.sampling.seed
    assert asked == GenerationRequest(
        list(b"user: Hi\n"), 100, Sampling(0.3, 0.8, 5, seed), frozenset({256}), cache_scope="wrkspc_mine"
    )
    assert 0 <= seed < 2**64


@pytest.mark.parametrize(("follows", "expected"), [(True, (0.2, 0.9, 0)), (False, (1.0, 1.0, 0))])
async def test_a_request_that_names_no_sampling_is_drawn_as_the_manifest_advises(
    engine: FakeEngine, follows: bool, expected: tuple[float, float, int]
) -> None:
    service = service_of(
        engine, MessagesConfig(follows_manifest_sampling=follows), sampling=SamplingParameters(0.2, 0.9)
    )
    async for _ in await service.reply(REQUEST, ME):
        pass
    (asked,) = engine.requests
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.sampling.top_k) == expected


async def test_the_same_request_has_the_same_seed(engine: FakeEngine) -> None:
    service = service_of(engine)
    changes = [
        {},
        {"max_tokens": 50},
        {"sampling": SamplingParameters(0.5)},
        {"conversation": conversation("Ho")},
    ]
    for change in changes:
        async for _ in await service.reply(replace(REQUEST, **change), ME):  # type: ignore[arg-type]
            pass
    seeds = [asked.sampling.seed for asked in engine.requests]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(MODEL_ID, [1, 2, 3], Sampling()) == 0x85632C1222239A7B


async def test_random_seeds_differ(engine: FakeEngine) -> None:
    service = service_of(engine, MessagesConfig(SamplingSeed.RANDOM))
    for _ in range(2):
        async for _ in await service.reply(REQUEST, ME):
            pass
    assert engine.requests[0].sampling.seed != engine.requests[1].sampling.seed


@pytest.mark.parametrize("source", SamplingSeed)
async def test_a_client_may_name_a_seed(engine: FakeEngine, source: SamplingSeed) -> None:
    service = service_of(engine, MessagesConfig(source))
    for seed in (7, 7, 8, -(2**80), None):
        async for _ in await service.reply(replace(REQUEST, seed=seed), ME):
            pass
    same, again, *others = (asked.sampling.seed for asked in engine.requests)
    assert same == again
    assert len({same, *others}) == 4


async def test_limits(engine: FakeEngine) -> None:
    service = service_of(engine)
    with pytest.raises(InvalidRequest, match="9000 > 8192"):
        await service.reply(replace(REQUEST, max_tokens=9000), ME)
    with pytest.raises(InvalidRequest, match="prompt is too long: 1007 tokens > 1000 maximum"):
        await service.reply(replace(REQUEST, conversation=conversation("x" * 1000)), ME)
    with pytest.raises(NotFound, match="claude-foo"):
        await service.reply(replace(REQUEST, model="claude-foo"), ME)
    assert not engine.requests


async def test_the_window_is_the_smaller_one(engine: FakeEngine) -> None:
    catalogue = Catalogue([fake_manifest(window_tokens=8)], {})
    catalogue.put(fake_model(engine, fake_manifest(window_tokens=8)))
    with pytest.raises(InvalidRequest, match="9 tokens > 8 maximum"):
        await MessagesService(catalogue).reply(replace(REQUEST, model=MODEL_ID), ME)


async def test_where_the_reply_must_fit_prompt_and_max_tokens_are_added(engine: FakeEngine) -> None:
    service = service_of(engine, MessagesConfig(reply_must_fit=True))  # the prompt has 9 of 1,000 tokens
    sentence = "input length and `max_tokens` exceed context limit: 9 [+] 992 > 1000, decrease input length"
    with pytest.raises(InvalidRequest, match=sentence):
        await service.reply(replace(REQUEST, max_tokens=992), ME)
    assert not engine.requests
    for fits in ({"max_tokens": 991}, {"max_tokens": 992, "window_overrun_allowed": True}):
        (await service.reply(replace(REQUEST, **fits), ME)).cancel()  # type: ignore[arg-type]
    (await service_of(engine).reply(replace(REQUEST, max_tokens=992), ME)).cancel()
    assert len(engine.requests) == 3


async def test_long_prompts_are_counted_off_the_loop(engine: FakeEngine) -> None:
    text = "x" * (MAX_INLINE_CHARS + 1)
    num_tokens = await service_of(engine).count(ALIAS, conversation(text), ME)
    assert num_tokens == len(text) + len("user: \n")


async def test_text_that_cannot_fit_is_not_tokenised_whole(engine: FakeEngine) -> None:
    words = conversation("x" * 1_000_000)
    service = service_of(engine)
    num_tokens = await service.count(ALIAS, words, ME)
    assert num_tokens == pytest.approx(1_000_000, rel=0.01)
    with pytest.raises(InvalidRequest, match=f"prompt is too long: {num_tokens} tokens > 1000 maximum"):
        await service.reply(replace(REQUEST, conversation=words), ME)


async def test_a_model_still_loading() -> None:
    service = MessagesService(Catalogue([fake_manifest()], {}))
    with pytest.raises(Overloaded):
        await service.count(MODEL_ID, conversation(), ME)


async def test_cancelling_ends_the_iteration(engine: FakeEngine) -> None:
    engine.script = lambda _request: Script([65] * 10_000)
    engine.step_secs = 0.001
    stream = await service_of(engine).reply(replace(REQUEST, max_tokens=8192), ME)
    await anext(stream)
    while engine.num_steps < 3:  # so that the iteration holds events that came together with the one it gave
        await asyncio.sleep(0.001)
    await anext(stream)
    waiting = asyncio.create_task(stream.next_events())
    stream.cancel()
    await waiting
    assert [event async for event in stream] == []
    while engine.stats().num_running:
        await asyncio.sleep(0.001)


async def test_keys() -> None:
    ring = KeyRing([hash_key("one"), hash_key("two")])
    assert await ring.identify("one") == await ring.identify("two") == Identity(role="admin")
    assert await ring.identify("three") is None
    assert await ring.identify(None) is None
    assert await ring.identify("\udcff") is None
    assert await KeyRing(open_access=True).identify(None) == Identity(role="admin")
