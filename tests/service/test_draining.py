"""The end of serving: nobody new, and who is still here ends with the wire's own words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from hokku.protocol.errors import NotFound, Overloaded
from hokku.protocol.events import ReplyEnd
from hokku.protocol.messages import Conversation, MessagesRequest, TextPart, Turn
from hokku.service.draining import Drain, DrainingReplies
from hokku.service.keys import Identity
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue
from hokku.service.replies import ReplyStream
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, fake_manifest, fake_model

ME = Identity("wrkspc_mine")
HI = Conversation((), (Turn("user", (TextPart("Hi"),)),))
REQUEST = MessagesRequest(ALIAS, HI, max_tokens=100, id="req_1")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(step_secs=0.002)
    yield engine
    engine.close()


def replies_of(engine: FakeEngine, drain: Drain) -> DrainingReplies:
    catalogue = Catalogue([fake_manifest()], {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine))
    return DrainingReplies(MessagesService(catalogue), drain)


async def test_who_is_here_may_finish_and_nobody_else_comes_in(engine: FakeEngine) -> None:
    drain = Drain()
    replies = replies_of(engine, drain)
    stream = await replies.reply(REQUEST, ME)
    assert not drain.is_empty
    drain.begin()
    with pytest.raises(Overloaded, match="shutting down"):
        await replies.reply(REQUEST, ME)
    with pytest.raises(Overloaded, match="shutting down"):
        await replies.count(ALIAS, HI, ME)
    assert isinstance((await stream.all_events())[-1], ReplyEnd)
    stream.cancel()
    assert drain.is_empty


@pytest.mark.parametrize("is_reading", [True, False])
async def test_a_stream_that_is_told_to_end_says_so(engine: FakeEngine, is_reading: bool) -> None:
    engine.step_secs = 0.2 if is_reading else 0.002
    drain = Drain()
    stream = await replies_of(engine, drain).reply(REQUEST, ME)
    await stream.next_events()
    if is_reading:
        asyncio.get_running_loop().call_later(0.05, drain.end)
    else:
        drain.end()
    assert not stream.is_finished
    with pytest.raises(Overloaded, match="shutting down"):
        await stream.all_events()
    assert stream.is_finished
    stream.cancel()
    assert drain.is_empty


async def test_a_whole_reply_that_is_told_to_end_says_so(engine: FakeEngine) -> None:
    drain = Drain()
    stream = await replies_of(engine, drain).reply(REQUEST, ME)
    asyncio.get_running_loop().call_later(0.005, drain.end)
    with pytest.raises(Overloaded, match="shutting down"):
        await stream.all_events()


async def test_what_has_ended_has_nothing_to_say(engine: FakeEngine) -> None:
    drain = Drain()
    stream = await replies_of(engine, drain).reply(REQUEST, ME)
    await stream.all_events()
    drain.end()
    assert stream.is_finished


async def test_a_reply_that_begins_as_the_time_ends_says_so_too(engine: FakeEngine) -> None:
    drain = Drain()
    replies = replies_of(engine, drain)

    class Ends:
        """Replies that begin while the time ends."""

        async def reply(self, request: MessagesRequest, identity: Identity) -> ReplyStream:
            reply = await service.reply(request, identity)
            drain.end()
            return reply

        async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
            return await service.count(model_name, conversation, identity)

    catalogue = Catalogue([fake_manifest()], {ALIAS: MODEL_ID})
    catalogue.put(fake_model(engine))
    service = MessagesService(catalogue)
    stream = await DrainingReplies(Ends(), drain).reply(REQUEST, ME)
    with pytest.raises(Overloaded):
        await stream.next_events()
    with pytest.raises(Overloaded):
        await replies.reply(REQUEST, ME)


async def test_a_refused_request_is_not_waited_for(engine: FakeEngine) -> None:
    drain = Drain()
    with pytest.raises(NotFound):
        await replies_of(engine, drain).reply(MessagesRequest("claude-foo", HI, max_tokens=1), ME)
    assert drain.is_empty
