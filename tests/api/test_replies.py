"""Replies, whole and streamed: framing, order, stops, failures, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.grammar.compiler import GrammarRefused
from hokku.protocol.errors import EngineFailed, HokkuError, Overloaded
from tests.api.conftest import HEADERS, client_of, services_of
from tests.api.test_body_errors import GOOD
from tests.fakes import ALIAS, END_OF_TURN, MODEL_ID, FakeEngine, Script, says

STREAMED = GOOD | {"stream": True, "max_tokens": 1000}


def read_events(body: str) -> list[dict[str, Any]]:
    """The events of a stream, each checked for the wire's framing."""
    assert body.endswith("\n\n")
    events = []
    for chunk in body.removesuffix("\n\n").split("\n\n"):
        match = re.fullmatch(r"event: (\w+)\ndata: (\{[\x20-\x7e]*\})", chunk)
        assert match, chunk
        event: dict[str, Any] = json.loads(match[2])
        assert event["type"] == match[1]
        events.append(event)
    return events


def types_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")


async def stream(client: httpx.AsyncClient, **changes: Any) -> list[dict[str, Any]]:
    response = await client.post("/v1/messages", json=STREAMED | changes)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["request-id"].startswith("req_")
    return read_events(response.text)


async def whole(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    response = await client.post("/v1/messages", json=GOOD | {"max_tokens": 1000} | changes)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()
    return message


async def test_the_order_of_events(client: httpx.AsyncClient) -> None:
    events = await stream(client)
    types = types_of(events)
    num_deltas = types.count("content_block_delta")
    assert types == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * num_deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert text_of(events) == "Hello, world!"
    usage = {
        "input_tokens": 9,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 1,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }
    start = events[0]["message"]
    assert re.fullmatch(r"msg_01[1-9A-HJ-NP-Za-km-z]{22}", start.pop("id"))
    assert start == {
        "model": MODEL_ID,
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": usage,
    }
    assert events[1] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None},
        "usage": usage | {"output_tokens": len("Hello, world!") + 1},
    }


async def test_whole_is_the_stream_summed_up(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = says("Grüße, 世界 😀 \u2028 “so”")
    events, message = await stream(client), await whole(client)
    assert message["content"] == [{"type": "text", "text": text_of(events)}]
    assert text_of(events) == "Grüße, 世界 😀 \u2028 “so”"
    end = events[-2]
    assert (message["stop_reason"], message["usage"]) == (end["delta"]["stop_reason"], end["usage"])
    assert list(message) == list(events[0]["message"])


@pytest.mark.parametrize(
    ("script", "changes", "text", "stop_reason", "stop_sequence", "num_output_tokens"),
    [
        (says("one two three"), {}, "one two three", "end_turn", None, 14),
        (says("one two three"), {"max_tokens": 3}, "one", "max_tokens", None, 3),
        (says("one two three"), {"stop_sequences": ["two"]}, "one ", "stop_sequence", "two", 7),
        (says("one two three"), {"stop_sequences": ["x", "e t"]}, "on", "stop_sequence", "e t", 5),
        (says("one tw"), {"stop_sequences": ["two"]}, "one tw", "end_turn", None, 7),
        (says(""), {}, None, "end_turn", None, 1),
        (says("one"), {"max_tokens": 0}, None, "max_tokens", None, 0),
        (says("one"), {"stop_sequences": ["o"]}, None, "stop_sequence", "o", 1),
        (says("é"), {"max_tokens": 1}, "\ufffd", "max_tokens", None, 1),
    ],
)
async def test_how_replies_end(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    script: Callable[[Any], Script],
    changes: dict[str, Any],
    text: str | None,
    stop_reason: str,
    stop_sequence: str | None,
    num_output_tokens: int,
) -> None:
    engine.script = script
    message = await whole(client, **changes)
    assert message["content"] == ([] if text is None else [{"type": "text", "text": text}])
    assert (message["stop_reason"], message["stop_sequence"]) == (stop_reason, stop_sequence)
    assert message["usage"]["output_tokens"] == num_output_tokens


@pytest.mark.parametrize(
    ("beta", "stop_reason"),
    [("", "max_tokens"), ("model-context-window-exceeded-2025-08-26", "model_context_window_exceeded")],
)
async def test_generation_ends_at_the_window(
    client: httpx.AsyncClient, engine: FakeEngine, beta: str, stop_reason: str
) -> None:
    engine.context_window_tokens = 20
    client.headers["anthropic-beta"] = beta
    message = await whole(client, max_tokens=8192)
    assert message["stop_reason"] == stop_reason
    assert message["usage"]["input_tokens"] + message["usage"]["output_tokens"] == 20


@pytest.mark.parametrize(
    ("error", "status", "error_type", "message"),
    [
        (Overloaded("Overloaded"), 529, "overloaded_error", "Overloaded"),
        (GrammarRefused("a schema is too complex"), 400, "invalid_request_error", "a schema is too complex"),
        (EngineFailed("kernel exploded at 0x7f"), 500, "api_error", "Internal server error"),
    ],
)
@pytest.mark.parametrize("body", [GOOD, STREAMED])
async def test_failure_before_the_first_event(
    client: httpx.AsyncClient,
    engine: FakeEngine,
    body: dict[str, Any],
    error: HokkuError,
    status: int,
    error_type: str,
    message: str,
) -> None:
    engine.script = lambda _request: Script([], error, error_after=-1)
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == status
    assert response.json()["error"] == {"type": error_type, "message": message}


async def test_failure_mid_stream(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda _request: Script(list(b"Hello"), EngineFailed("kernel exploded"), error_after=3)
    events = await stream(client)
    assert text_of(events) == "Hel"
    assert events[-1] == {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
    assert "message_delta" not in types_of(events)


async def test_shutdown_mid_stream_is_retryable(engine: FakeEngine) -> None:
    engine.step_secs = 0.05
    async with client_of(services_of(engine)) as client:
        streaming = asyncio.create_task(stream(client))
        while not engine.requests:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(engine.close)
        events = await streaming
    assert events[-1]["error"]["type"] == "overloaded_error"


async def test_full_queue(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.max_requests = 0
    response = await client.post("/v1/messages", json=STREAMED)
    assert (response.status_code, response.json()["error"]["type"]) == (529, "overloaded_error")


async def test_pings_while_the_prompt_is_being_read(engine: FakeEngine) -> None:
    engine.step_secs = 0.3
    engine.script = says("Hi")
    async with client_of(services_of(engine), ApiConfig(ping_interval_secs=0.05)) as client:
        events = await stream(client)
    first = types_of(events).index("content_block_start")
    assert types_of(events)[:first].count("ping") >= 2
    assert text_of(events) == "Hi"


class Connection:
    """An ASGI connection by hand, for clients that leave or read slowly."""

    def __init__(self, engine: FakeEngine, body: dict[str, Any]) -> None:
        self.app = create_app(services_of(engine), ApiConfig())
        self.sent: list[Message] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.leaves = asyncio.Event()
        self._body: bytes | None = json.dumps(body).encode()

    async def run(self) -> None:
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/messages",
            "query_string": b"",
            "headers": headers,
        }
        await self.app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        await self.may_send.wait()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("starts", [True, False])
async def test_a_client_that_leaves_is_forgotten_at_the_next_step(streamed: bool, starts: bool) -> None:
    engine = FakeEngine(lambda _request: Script([65] * 100_000, starts=starts), step_secs=0.005)
    connection = Connection(engine, STREAMED | {"stream": streamed, "max_tokens": 8192})
    serving = asyncio.create_task(connection.run())
    while engine.stats().num_running == 0:
        await asyncio.sleep(0.001)
    connection.leaves.set()
    await serving
    steps_at_cancel = engine.num_steps
    while engine.stats().num_running:
        await asyncio.sleep(0.001)
    assert engine.num_steps <= steps_at_cancel + 2  # the step under way, and the one that lets go
    assert not streamed or starts or not connection.sent
    engine.close()


async def test_a_slow_reader_gets_few_large_pieces() -> None:
    engine = FakeEngine(lambda _request: Script([*b"x" * 500, END_OF_TURN]))
    connection = Connection(engine, STREAMED)
    connection.may_send.clear()
    serving = asyncio.create_task(connection.run())
    while not engine.num_steps or engine.stats().num_running:
        await asyncio.sleep(0.001)
    connection.may_send.set()
    await serving
    body = b"".join(message["body"] for message in connection.sent if "body" in message)
    assert text_of(read_events(body.decode())) == "x" * 500
    assert len(connection.sent) <= 4


async def test_64_streams_at_once(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.script = lambda request: Script([*bytes(request.prompt)[6:], END_OF_TURN])
    words = [f"stream {number} says 世界 " * 3 for number in range(64)]
    replies = await asyncio.gather(
        *(stream(client, messages=[{"role": "user", "content": each}]) for each in words)
    )
    assert [text_of(events) for events in replies] == [f"{each}\n" for each in words]
    assert all(types_of(events)[-2:] == ["message_delta", "message_stop"] for events in replies)
    assert engine.stats().num_running == 0


async def test_the_alias_answers_with_the_snapshot(client: httpx.AsyncClient) -> None:
    assert (await whole(client, model=ALIAS))["model"] == MODEL_ID
