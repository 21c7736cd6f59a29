"""Requests are let in by the length of their prompt, which is read once, whoever answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hokku.protocol.errors import InvalidRequest, PromptTooLong, RateLimited
from hokku.protocol.messages import Conversation, MessagesRequest, TextPart, Turn
from hokku.protocol.records import LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.registry.fallback import Fallback, LocalTarget, Rule
from hokku.service.booking import BookedReplies
from hokku.service.fallback import FallbackService
from hokku.service.keys import Identity
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.rate_limits import RateLimits
from hokku.service.replies import ReadingReplies, ReplyStream
from tests.fakes import ByteCodec, FakeEngine, fake_manifest, fake_model
from tests.service.test_booking import Book
from tests.service.test_rate_limits import Rules

ME = Identity("wrkspc_mine")
HI = Conversation((), (Turn("user", (TextPart("Hi"),)),))  # nine tokens
REQUEST = MessagesRequest("one", HI, max_tokens=5)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Conversation]:
    """What has been tokenised."""
    seen: list[Conversation] = []
    encode = ByteCodec.encode

    def noted(self: ByteCodec, conversation: Conversation) -> object:
        seen.append(conversation)
        return encode(self, conversation)

    monkeypatch.setattr(ByteCodec, "encode", noted)
    return seen


def limited(replies: ReadingReplies, catalogue: Catalogue, input_tokens_a_minute: int) -> LimitedReplies:
    rules = Rules(LimitRule(None, None, input_tokens_per_minute=input_tokens_a_minute))
    limits = RateLimits(rules, LocalBuckets(lambda: 0), "org")
    booked = BookedReplies(replies, Book(), catalogue.manifest)
    return LimitedReplies(booked, limits, catalogue.manifest)


def catalogue_of(
    engine: FakeEngine, fallback: Fallback | None = None, *, is_loaded: bool = True
) -> Catalogue:
    """`one`, which may fall back to `other`."""
    one, other = replace(fake_manifest("one"), fallback=fallback), fake_manifest("other")
    catalogue = Catalogue([one, other], {})
    if is_loaded:
        catalogue.put(fake_model(engine, one))
    catalogue.put(fake_model(engine, other))
    return catalogue


async def tokens_left(replies: LimitedReplies, stream: ReplyStream) -> int:
    """What the bucket holds once a reply has been read."""
    await stream.all_events()
    while replies._settling:
        await asyncio.sleep(0.001)
    probe = await replies._limits.admit(ME, "one", 0, 0)
    assert probe.levels.input_tokens is not None
    return probe.levels.input_tokens.remaining


async def test_a_prompt_is_tokenised_once(engine: FakeEngine, encoded: list[Conversation]) -> None:
    catalogue = catalogue_of(engine)
    replies = limited(MessagesService(catalogue), catalogue, 100)
    stream = await replies.reply(REQUEST, ME)
    assert encoded == [HI]
    assert stream.rate_levels is not None
    assert stream.rate_levels.input_tokens is not None
    assert stream.rate_levels.input_tokens.remaining == 91
    assert await tokens_left(replies, stream) == 91
    assert engine.requests[0].prompt == list(b"user: Hi\n")


async def test_what_is_refused_never_reaches_the_engine(
    engine: FakeEngine, encoded: list[Conversation]
) -> None:
    catalogue = catalogue_of(engine)
    replies = limited(MessagesService(catalogue), catalogue, 8)
    with pytest.raises(RateLimited, match="8 input tokens"):
        await replies.reply(REQUEST, ME)
    assert encoded == [HI]
    assert not engine.requests


async def test_a_prompt_beyond_the_window_gives_its_tokens_back(engine: FakeEngine) -> None:
    catalogue = catalogue_of(engine)
    replies = limited(MessagesService(catalogue), catalogue, 10_000)
    long = replace(REQUEST, conversation=Conversation((), (Turn("user", (TextPart("x" * 2_000),)),)))
    with pytest.raises(PromptTooLong):
        await replies.reply(long, ME)
    assert await tokens_left(replies, await replies.reply(REQUEST, ME)) == 10_000 - 9


@pytest.mark.parametrize("length", [9, 1])
async def test_a_rule_about_the_prompt_sees_what_the_limit_has_read(
    engine: FakeEngine, encoded: list[Conversation], length: int
) -> None:
    fallback = Fallback(LocalTarget("other"), frozenset(), (Rule(prompt_tokens_over=length),), "here")
    catalogue = catalogue_of(engine, fallback)
    replies = limited(FallbackService(MessagesService(catalogue), catalogue, {}), catalogue, 100)
    stream = await replies.reply(REQUEST, ME)
    assert await tokens_left(replies, stream) == 91
    assert stream.model_id == ("one" if length == 9 else "other")
    assert len(encoded) == (1 if length == 9 else 2)  # each model has its own tokens


@pytest.mark.parametrize("is_loaded", [True, False])
async def test_what_another_model_will_read_is_estimated_and_settled(
    engine: FakeEngine, encoded: list[Conversation], is_loaded: bool
) -> None:
    rules = (Rule(max_tokens_over=1),) if is_loaded else ()
    fallback = Fallback(LocalTarget("other"), frozenset({"loading"}), rules, "here")
    catalogue = catalogue_of(engine, fallback, is_loaded=is_loaded)
    replies = limited(FallbackService(MessagesService(catalogue), catalogue, {}), catalogue, 100)
    stream = await replies.reply(REQUEST, ME)
    assert stream.rate_levels is not None
    assert stream.rate_levels.input_tokens is not None
    assert stream.rate_levels.input_tokens.remaining == 99
    assert await tokens_left(replies, stream) == 91
    assert len(encoded) == 1


async def test_an_error_that_is_no_reason_to_fall_back_stands(engine: FakeEngine) -> None:
    catalogue = catalogue_of(engine, Fallback(LocalTarget("other"), frozenset({"loading"}), (), "here"))
    replies = limited(FallbackService(MessagesService(catalogue), catalogue, {}), catalogue, 100)
    with pytest.raises(InvalidRequest, match="maximum allowed number of output tokens"):
        await replies.reply(replace(REQUEST, max_tokens=9_000), ME)
