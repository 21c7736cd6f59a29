"""Asking other services over real sockets: a Hokku server, and ones that answer anything at all."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.chat.formats.plain import PLAIN
from hokku.protocol.errors import (
    HokkuError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    UpstreamFailed,
)
from hokku.protocol.events import ReplyEvent, ReplyStart, TextBlock, TextDelta, ToolUseBlock, Usage, fold
from hokku.protocol.messages import (
    Conversation,
    MessagesRequest,
    TextPart,
    Tool,
    ToolChoice,
    ToolUsePart,
    Turn,
)
from hokku.upstream.client import FORMS, Upstream
from hokku.upstream.config import UpstreamConfig
from hokku.upstream.reply import UpstreamReply
from tests.api.conftest import KEY as SERVER_KEY
from tests.api.conftest import services_of
from tests.fakes import ALIAS, MODEL_ID, FakeEngine, says
from tests.live import live_server
from tests.upstream.services import KEY, ScriptedService, asking, check_order, sse
from tests.upstream.test_anthropic import START, STOP, delta, started, stopped
from tests.upstream.test_openai import END, TOLD, chunk

Api = Literal["anthropic", "openai"]
SCHEMA = {"type": "object", "additionalProperties": False}
BEGUN = [chunk(content="He"), chunk(content="llo")]
HELLO = sse(*BEGUN, chunk(finish="stop"), TOLD, END)


@asynccontextmanager
async def asked(url: str, api: Api = "openai", **changes: Any) -> AsyncIterator[Upstream]:
    config = replace(UpstreamConfig(url, "theirs", KEY, connect_secs=2, read_secs=5), **changes)
    upstream = Upstream(FORMS[api](), config)
    try:
        yield upstream
    finally:
        await upstream.close()


async def reply_of(
    service: ScriptedService, request: MessagesRequest | None = None, **changes: Any
) -> list[ReplyEvent]:
    with service.live() as url:
        async with asked(url, **changes) as upstream:
            return await (await upstream.reply(request or asking())).all_events()


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture
def server(engine: FakeEngine) -> Iterator[str]:
    with live_server(create_app(services_of(engine), ApiConfig())) as url:
        yield url


async def test_a_hokku_server_answers(server: str, engine: FakeEngine) -> None:
    async with asked(server, "anthropic", key=SERVER_KEY, model=ALIAS) as upstream:
        stream = await upstream.reply(asking(stop_sequences=("ld",)))
        events = await stream.all_events()
    check_order(events)
    reply = fold(events)
    assert (reply.text, reply.model, reply.stop_reason, reply.stop_sequence) == (
        "Hello, wor",
        MODEL_ID,
        "stop_sequence",
        "ld",
    )
    assert (reply.usage, stream.usage, stream.model_id) == (Usage(9, 12), Usage(9, 12), MODEL_ID)
    assert (stream.is_finished, await stream.next_events()) == (True, [])
    assert bytes(engine.requests[0].prompt) == b"user: Hi\n"


async def test_calls_and_cache_marks_go_through(server: str, engine: FakeEngine) -> None:
    engine.script = says(f"Well{PLAIN.syntax.spell([ToolUsePart('', 'look', {'a': 'ü'})])}")
    turns = (Turn("user", (TextPart("x" * 100, cache_secs=300), TextPart("Hi"))),)
    request = asking(conversation=Conversation((), turns, (Tool("look", "", SCHEMA),), ToolChoice("auto")))
    async with asked(server, "anthropic", key=SERVER_KEY, model=ALIAS) as upstream:
        replies = [fold(await (await upstream.reply(request)).all_events()) for _ in range(2)]
    first, second = replies
    assert isinstance(first.content[1], ToolUseBlock)
    assert (first.content[0], first.content[1].input) == (TextBlock("Well"), {"a": "ü"})
    assert first.stop_reason == "tool_use"
    assert first.usage.cache_write_5m_tokens == second.usage.cache_read_tokens > 100


async def test_a_service_may_not_hand_the_request_on(server: str) -> None:
    service = ScriptedService([HELLO])
    await reply_of(service)
    path, headers, body = service.asked[0]
    assert (path, headers["hokku-fallback"], headers["accept-encoding"]) == (
        "/chat/completions",
        "none",
        "identity",
    )
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_half_a_character_of_a_client_is_no_obstacle() -> None:
    service = ScriptedService([HELLO])
    await reply_of(service, asking("a\ud83d"))
    assert service.asked[0][2]["messages"][0]["content"] == "a\ud83d"


async def test_events_come_as_they_are_sent() -> None:
    service = ScriptedService([sse(BEGUN[0]), 0.05, sse(BEGUN[1]), 0.05, sse(chunk(finish="stop"), END)])
    with service.live() as url:
        async with asked(url) as upstream:
            stream = await upstream.reply(asking())
            first = await stream.next_events()
            assert isinstance(first[0], ReplyStart)
            assert await stream.next_events(0.001) == []  # nothing yet, and nothing is lost by it
            rest = await stream.all_events()
    check_order([*first, *rest])
    assert fold([*first, *rest]).text == "Hello"


async def test_a_reader_that_leaves_closes_the_connection() -> None:
    service = ScriptedService([sse(BEGUN[0]), 30.0])
    with service.live() as url:
        async with asked(url) as upstream:
            stream = await upstream.reply(asking())
            reading = asyncio.create_task(stream.all_events())
            await asyncio.sleep(0.01)
            stream.cancel()
            assert not any(isinstance(event, ReplyStart) for event in (await reading)[1:])
            while not service.num_left:
                await asyncio.sleep(0.01)
            assert await stream.next_events() == []


async def test_so_does_one_that_leaves_before_the_first_event() -> None:
    service = ScriptedService([b": wait\n\n", 30.0])
    with service.live() as url:
        async with asked(url) as upstream:
            asking_it = asyncio.create_task(upstream.reply(asking()))
            while not service.asked:
                await asyncio.sleep(0.01)
            asking_it.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking_it
            while not service.num_left:
                await asyncio.sleep(0.01)


async def test_a_reader_that_is_slow_leaves_the_service_waiting() -> None:
    made: list[ReplyEvent] = []

    async def source() -> AsyncGenerator[list[ReplyEvent]]:
        for _ in range(5_000):
            made.append(TextDelta(0, "x"))
            yield made[-1:]

    stream = UpstreamReply(source(), "m")
    await stream.begin()
    for _ in range(10_000):
        await asyncio.sleep(0)
    assert len(made) < 2_000
    assert len(await stream.all_events()) == 5_000


JSON_HEADERS = {"content-type": "application/json"}


def refusal(message: str, kind: str = "some_error") -> list[bytes]:
    return [json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()]


@pytest.mark.parametrize(
    ("status", "pieces", "error", "says"),
    [
        (400, refusal("Bad tools"), InvalidRequest, "^Bad tools$"),
        (400, [b'{"message": "Bad", "object": "error"}'], InvalidRequest, "^Bad$"),
        (422, [b'{"detail": "Odd"}'], InvalidRequest, "^Odd$"),
        (422, [b'{"detail": [{"msg": "Odd"}]}'], InvalidRequest, "refused the request"),
        (400, [b"<html>"], InvalidRequest, "refused the request"),
        (413, refusal("Big"), RequestTooLarge, "^Big$"),
        (429, refusal("Slow"), RateLimited, "at its limit: Slow"),
        (529, refusal("Full"), Overloaded, r"overloaded \(529\): Full"),
        (503, [], Overloaded, r"overloaded \(503\)"),
        (502, [b"<html>"], Overloaded, "overloaded"),
        (401, refusal("No"), UpstreamFailed, "refused this server's key"),
        (403, refusal("No"), UpstreamFailed, "refused this server's key"),
        (404, refusal("model: theirs"), UpstreamFailed, "answered 404: model: theirs"),
        (500, refusal("x" * 5_000), UpstreamFailed, "answered 500: x{1000}…$"),
        (307, [], UpstreamFailed, "answered 307"),
        (204, [], UpstreamFailed, "answered 204"),
    ],
)
@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_refusals(
    api: Api, status: int, pieces: Sequence[bytes], error: type[HokkuError], says: str
) -> None:
    headers = JSON_HEADERS | {"location": "http://127.0.0.1:1/", "retry-after": "7"}
    service = ScriptedService(pieces, status, headers)
    with pytest.raises(error, match=says) as raised:
        await reply_of(service, api=api)
    assert len(service.asked) == 1
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after_secs == 7


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "9" * 20, "²"])
async def test_a_time_to_come_back_that_is_none(retry_after: str) -> None:
    headers = {"retry-after": retry_after.encode().decode("latin-1")}
    with pytest.raises(RateLimited) as raised:
        await reply_of(ScriptedService([], 429, headers))
    assert raised.value.retry_after_secs == 1


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (ScriptedService([b"{}"], headers=JSON_HEADERS), "something else than a stream of events"),
        (
            ScriptedService(
                [b"x"], headers={"content-type": "text/event-stream", "content-encoding": "gzip"}
            ),
            "a compressed reply",
        ),
        (ScriptedService([sse("{")]), "no JSON"),
        (ScriptedService([b"\xff\x00" * 5_000]), "broke off"),
        (ScriptedService([b"data: " + b"x" * 200_000]), "more than 100000 bytes"),
        (ScriptedService([b": x\n\n" * 100_000]), "more than 300000 bytes"),
        (ScriptedService([sse(*BEGUN)]), "broke off"),
        (ScriptedService([sse(*BEGUN), sse({"error": {"message": "Sorry"}})]), "500: Sorry"),
        (ScriptedService([sse(*BEGUN), 30.0]), r"broke off \(ReadTimeout\)"),
    ],
)
async def test_replies_that_are_none(service: ScriptedService, says: str) -> None:
    with pytest.raises(UpstreamFailed, match=says):
        await reply_of(service, read_secs=0.2, max_event_bytes=100_000, max_reply_bytes=300_000)


async def test_a_stream_that_breaks_gives_what_came_first() -> None:
    service = ScriptedService([sse(*BEGUN, {"error": {"message": "Sorry", "code": 503}})])
    with service.live() as url:
        async with asked(url) as upstream:
            stream = await upstream.reply(asking())
            events = await stream.next_events()
            with pytest.raises(Overloaded, match="Sorry"):
                await stream.all_events()
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello"
    assert stream.is_finished


async def test_a_bare_start_is_nothing_yet() -> None:
    with pytest.raises(Overloaded, match="Sorry"):
        await reply_of(ScriptedService([sse(chunk(), {"error": {"message": "Sorry", "code": 503}})]))


async def test_silence_before_the_first_event_is_overload() -> None:
    with pytest.raises(Overloaded, match="cannot be reached"):
        await reply_of(ScriptedService([b": wait\n\n", 30.0]), read_secs=0.1)


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with asked(f"http://127.0.0.1:{port}") as upstream:
        with pytest.raises(Overloaded, match="cannot be reached"):
            await upstream.reply(asking())


async def test_a_service_that_hangs_up() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, asked(f"http://127.0.0.1:{port}") as upstream:
        with pytest.raises(Overloaded, match="cannot be reached"):
            await upstream.reply(asking())


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 429, 500, 503])
@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_a_service_that_repeats_the_key(
    status: int, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = {"type": "error", "error": {"type": "some_error", "message": f"Who is {KEY}?"}}
    service = ScriptedService([json.dumps(error).encode()] if status != 200 else [sse(START, error)], status)
    with pytest.raises(HokkuError) as raised:
        await reply_of(service, api=api)
    assert KEY not in str(raised.value)
    assert KEY not in caplog.text
    assert KEY not in repr(UpstreamConfig("https://a.example", "m", KEY))


async def test_one_client_serves_many_requests_at_once() -> None:
    sent = sse(START, started(0, type="text"), delta(0, type="text_delta", text="x"), stopped(0), STOP)
    service = ScriptedService([sent, 0.05, sse({"type": "message_stop"})])
    with service.live() as url:
        async with asked(url, "anthropic", max_connections=4) as upstream:
            streams = await asyncio.gather(*(upstream.reply(asking()) for _ in range(4)))
            replies = await asyncio.gather(*(stream.all_events() for stream in streams))
            again = await (await upstream.reply(asking())).all_events()
    assert [fold(events).text for events in [*replies, again]] == ["x"] * 5
