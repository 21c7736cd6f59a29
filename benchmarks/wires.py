"""What a streamed token costs on each wire.

    python -m benchmarks.wires

The same replies go out on every wire in turns, from one application in this process, without sockets and without a
model: every stream gets its next token when all have written their last. Counted is the processor time of the event
loop's thread a token, and how much more that is than on the Anthropic wire. Both are the least of all rounds, for what
other programs do to the caches can only add; they still differ between runs by more than the wires do, and what a wire
may cost is held in instructions (`benchmarks.wire_instructions`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp

from benchmarks.no_sockets import post
from benchmarks.platform_overhead import Client, bare
from hokku.opening import open_model
from hokku.protocol.engine import (
    EngineStats,
    EventSink,
    Finished,
    FinishReason,
    GenerationRequest,
    Started,
    Tokens,
)
from hokku.settings import load_settings

MOST_SHARE = 0.05
_HEAD_START_SECS = 0.02  # for what a stream writes before its first token
_MODEL = "claude-3-5-haiku-20241022"
_BEDROCK = "/model/anthropic.claude-3-5-haiku-20241022-v1:0"
_VERTEX = "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-3-5-haiku@20241022"


@dataclass(eq=False)
class _Stream:
    """One reply of the engine's."""

    sink: EventSink
    left: int

    def cancel(self) -> None:
        """See `RequestHandle`."""
        self.left = 0


class LockstepEngine:
    """Gives every stream its next token when all have written their last: each token is a write of its own, however
    busy the machine is. Runs on the loop that it serves."""

    context_window_tokens = 1 << 20

    def __init__(self, num_streams: int, first_token: int = 1_000) -> None:
        self._num_streams = num_streams
        self._first_token = first_token
        self._streams: list[_Stream] = []
        self._num_steps = self._num_awaited = 0

    def submit(self, request: GenerationRequest, sink: EventSink) -> _Stream:
        """See `Engine`."""
        stream = _Stream(sink, request.max_new_tokens)
        sink(Started(cached_tokens=0))
        self._streams.append(stream)
        if len(self._streams) == self._num_streams:
            asyncio.get_running_loop().call_later(_HEAD_START_SECS, self._step)
        return stream

    def note_write(self) -> None:
        """A stream has written something."""
        self._num_awaited -= 1
        if self._num_awaited == 0:
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._num_steps += 1
        tokens = Tokens((self._first_token + self._num_steps % 24,))
        for stream in self._streams:
            stream.left -= 1
            stream.sink(tokens)
            if stream.left <= 0:
                stream.sink(Finished(FinishReason.MAX_TOKENS))
        self._streams = [stream for stream in self._streams if stream.left > 0]
        self._num_awaited = len(self._streams)

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return EngineStats(0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `Engine`."""


@dataclass(frozen=True, slots=True)
class WireUnderTest:
    """How a wire is asked for a streamed reply, and what its last bytes hold."""

    name: str
    path: str
    body: dict[str, Any]
    ends_with: bytes


def wires(max_tokens: int) -> tuple[WireUnderTest, ...]:
    """The same question on each, Anthropic's first."""
    messages = [{"role": "user", "content": "Write a very long story."}]
    body = {"max_tokens": max_tokens, "messages": messages}
    model = {"model": _MODEL}
    streamed = {"stream": True}
    converse = {
        "messages": [{"role": "user", "content": [{"text": "Write a very long story."}]}],
        "inferenceConfig": {"maxTokens": max_tokens},
    }
    return (
        WireUnderTest("Anthropic", "/v1/messages", body | model | streamed, b"message_stop"),
        WireUnderTest(
            "Bedrock, InvokeModel",
            f"{_BEDROCK}/invoke-with-response-stream",
            body | {"anthropic_version": "bedrock-2023-05-31"},
            b"chunk",
        ),
        WireUnderTest("Bedrock, Converse", f"{_BEDROCK}/converse-stream", converse, b"metadata"),
        WireUnderTest(
            "Vertex AI",
            f"{_VERTEX}:streamRawPredict",
            body | streamed | {"anthropic_version": "vertex-2023-10-16"},
            b"message_stop",
        ),
        WireUnderTest("OpenAI, chat", "/v1/chat/completions", body | model | streamed, b"[DONE]"),
        WireUnderTest(
            "OpenAI, text",
            "/v1/completions",
            {"prompt": "Once upon a time", "max_tokens": max_tokens} | model | streamed,
            b"[DONE]",
        ),
    )


async def ask(app: ASGIApp, key: str, wire: WireUnderTest, engine: LockstepEngine) -> int:
    """One streamed reply; the number of its writes. Ends the program where the reply is no whole one."""
    headers = {"host": "localhost", "authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    answered = await post(app, wire.path, wire.body, headers, engine.note_write)
    if answered.status != 200 or wire.ends_with not in answered.last:
        raise SystemExit(f"{wire.name}: {answered.status}: {answered.last.decode(errors='replace')}")
    return answered.num_writes


@dataclass(frozen=True, slots=True)
class Cost:
    """One wire's."""

    wire: str
    us_a_token: float
    writes_a_token: float
    more_share: float  # than the Anthropic wire


async def rounds_of(
    client: Client,
    engine: LockstepEngine,
    asked: Sequence[WireUnderTest],
    num_streams: int,
    num_tokens: int,
    rounds: int,
) -> tuple[list[list[float]], list[list[float]]]:
    """Microseconds and writes a token, of each wire and round; a first round only warms up."""
    micros: list[list[float]] = [[] for _ in asked]
    writes: list[list[float]] = [[] for _ in asked]
    for number in range(rounds + 1):
        for turn in range(len(asked)):
            place = (turn + number) % len(asked)
            began = time.thread_time_ns()
            counts = await asyncio.gather(
                *(ask(client.app, client.key, asked[place], engine) for _ in range(num_streams))
            )
            spent = time.thread_time_ns() - began
            micros[place].append(spent / 1e3 / (num_streams * num_tokens))
            writes[place].append(sum(counts) / (num_streams * num_tokens))
    return [each[1:] for each in micros], [each[1:] for each in writes]


def measure(num_streams: int, num_tokens: int, rounds: int) -> list[Cost]:
    """Every wire against the first."""
    opened = open_model(load_settings({}, os.environ)).served
    opened.engine.close()
    engine = LockstepEngine(num_streams)
    asked = wires(num_tokens)
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        client = bare(replace(opened, engine=engine), Path(folder))
        micros, writes = runner.run(rounds_of(client, engine, asked, num_streams, num_tokens, rounds))
    least = [min(each) for each in micros]
    return [
        Cost(wire.name, own, statistics.median(written), own / least[0] - 1)
        for wire, own, written in zip(asked, least, writes, strict=True)
    ]


def table_of(costs: Sequence[Cost]) -> Table:
    """One row for each wire."""
    table = Table("Wire", "A token", "Writes a token", "More", "To hold", title="What a streamed token costs")
    for cost in costs:
        table.add_row(
            cost.wire,
            f"{cost.us_a_token:.1f} µs",
            f"{cost.writes_a_token:.2f}",
            f"{cost.more_share:+.1%}",
            f"≤ {MOST_SHARE:.0%}",
        )
    return table


def main() -> None:
    """Measure, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    costs = measure(options.streams, options.tokens, options.rounds)
    Console().print(table_of(costs))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({"at": at, "wires": [asdict(cost) for cost in costs]}))


if __name__ == "__main__":
    main()
