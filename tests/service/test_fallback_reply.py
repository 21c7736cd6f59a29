"""Whatever two streams do and however they are read: one of them is read from its beginning to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hokku.protocol.errors import EngineFailed, HokkuError, Overloaded
from hokku.protocol.events import ReplyEvent, TextDelta, Usage
from hokku.protocol.records import RateLevels
from hokku.registry.fallback import Fallback, LocalTarget
from hokku.service.fallback_reply import FallbackReply
from hokku.service.replies import ReplyStream

Reading = int | HokkuError  # how many events are ready, or what the stream fails with


@dataclass
class ScriptedStream:
    """Gives what it is told to, a reading at a time."""

    model_id: str
    script: list[Reading]
    is_finished: bool = False
    fallback_reason: str | None = None
    rate_levels: RateLevels | None = None
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    num_given: int = 0
    is_cancelled: bool = False

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        if self.is_finished:
            return []
        reading = self.script.pop(0)
        self.is_finished = not self.script
        if isinstance(reading, HokkuError):
            self.is_finished = True
            raise reading
        first, self.num_given = self.num_given, self.num_given + reading
        return [TextDelta(0, f"{self.model_id}{number}") for number in range(first, self.num_given)]

    async def all_events(self) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        while not self.is_finished:
            events += await self.next_events()
        return events

    def cancel(self) -> None:
        self.is_cancelled = self.is_finished = True


READING = st.integers(0, 2) | st.sampled_from([EngineFailed("broken"), Overloaded("full")])
SCRIPT = st.lists(READING, min_size=1, max_size=5)


@given(SCRIPT, SCRIPT, st.booleans())
def test_one_model_gives_the_whole_stream(ours: list[Reading], theirs: list[Reading], is_whole: bool) -> None:
    asyncio.run(check_one_model(ScriptedStream("a", ours), ScriptedStream("b", theirs), is_whole))


async def check_one_model(named: ScriptedStream, other: ScriptedStream, is_whole: bool) -> None:
    num_asked = 0

    async def hand_on() -> ReplyStream:
        nonlocal num_asked
        num_asked += 1
        return other

    fallback = Fallback(LocalTarget("b"), frozenset({"engine_failed"}), (), "here")
    reply = FallbackReply("a", fallback, hand_on)
    reply.begin(named)
    events: list[ReplyEvent] = []
    num_readings = 0
    try:
        while not reply.is_finished:
            num_before = num_asked
            events += await (reply.all_events() if is_whole else reply.next_events())
            num_readings += 1
            assert num_asked == num_before or num_readings == 1  # only within the first reading
    except HokkuError:
        assert reply.is_finished
    assert num_asked <= 1
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    name = "b" if num_asked else "a"
    assert texts == [f"{name}{number}" for number in range(len(texts))]
    assert reply.fallback_reason == ("engine_failed" if num_asked else None)
    reply.cancel()
    assert await reply.next_events() == []


async def test_a_reader_that_leaves_just_as_the_other_answers() -> None:
    other = ScriptedStream("b", [1, 1])
    leaving = asyncio.Event()

    async def hand_on() -> ReplyStream:
        leaving.set()
        return other

    reply = FallbackReply("a", Fallback(LocalTarget("b"), frozenset(), (), "here"), hand_on)
    reply.fall_back("rule")
    reading = asyncio.create_task(reply.next_events())
    await leaving.wait()
    reply.cancel()
    assert await reading == []
    assert other.is_cancelled
