"""What a streamed token costs on each wire.

    python -m benchmarks.wires

The same replies go out on every wire in turns, from one application in this process, without sockets and without a
model: a clock gives every stream a token a step. Counted is the processor time of the event loop's thread a token, and
how much more that is than on the Anthropic wire (to hold: at most 5 %).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp

from benchmarks.no_sockets import post
from benchmarks.platform_overhead import bare
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
_MODEL = "claude-3-5-haiku-20241022"
_BEDROCK = "/model/anthropic.claude-3-5-haiku-20241022-v1:0"
_VERTEX = "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-3-5-haiku@20241022"


@dataclass(eq=False)
class _Stream:
    """One reply of the clock's."""

    sink: EventSink
    left: int

    def cancel(self) -> None:
        """See `RequestHandle`."""
        self.left = 0


@dataclass
class ClockEngine:
    """Every stream gets a token a step, from a thread as an engine's come."""

    step_secs: float
    first_token: int = 1_000
    context_window_tokens = 1 << 20
    _streams: list[_Stream] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_closed: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, sink: EventSink) -> _Stream:
        """See `Engine`."""
        stream = _Stream(sink, request.max_new_tokens)
        sink(Started(cached_tokens=0))
        with self._lock:
            self._streams.append(stream)
        return stream

    def _run(self) -> None:
        token = 0
        while not self._is_closed:
            time.sleep(self.step_secs)
            token += 1
            with self._lock:
                streams = list(self._streams)
            for stream in streams:
                stream.left -= 1
                stream.sink(Tokens((self.first_token + token % 24,)))
                if stream.left <= 0:
                    stream.sink(Finished(FinishReason.MAX_TOKENS))
            with self._lock:
                self._streams = [stream for stream in self._streams if stream.left > 0]

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return EngineStats(0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `Engine`."""
        self._is_closed = True
        self._thread.join()


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


async def ask(app: ASGIApp, key: str, wire: WireUnderTest) -> int:
    """One streamed reply; the number of its writes. Ends the program where the reply is no whole one."""
    headers = {"host": "localhost", "authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    answered = await post(app, wire.path, wire.body, headers)
    if answered.status != 200 or wire.ends_with not in answered.last:
        raise SystemExit(f"{wire.name}: {answered.status}: {answered.last.decode(errors='replace')}")
    return answered.num_writes


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of one wire."""

    wire: str
    us_a_token: float
    writes_a_token: float
    more_share: float  # than the Anthropic wire, median of the rounds' ratios


async def rounds_of(
    app: ASGIApp, key: str, asked: Sequence[WireUnderTest], num_streams: int, num_tokens: int, rounds: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Microseconds and writes a token, of each wire and round; a first round only warms up."""
    micros: list[list[float]] = [[] for _ in asked]
    writes: list[list[float]] = [[] for _ in asked]
    for number in range(rounds + 1):
        for turn in range(len(asked)):
            place = (turn + number) % len(asked)
            began = time.thread_time_ns()
            counts = await asyncio.gather(*(ask(app, key, asked[place]) for _ in range(num_streams)))
            spent = time.thread_time_ns() - began
            micros[place].append(spent / 1e3 / (num_streams * num_tokens))
            writes[place].append(sum(counts) / (num_streams * num_tokens))
    return [each[1:] for each in micros], [each[1:] for each in writes]


def measure(num_streams: int, num_tokens: int, rounds: int, step_secs: float) -> list[Cost]:
    """Every wire against the first."""
    opened = open_model(load_settings({}, os.environ)).served
    opened.engine.close()
    engine = ClockEngine(step_secs)
    asked = wires(num_tokens)
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        client = bare(replace(opened, engine=engine), Path(folder))
        try:
            micros, writes = runner.run(
                rounds_of(client.app, client.key, asked, num_streams, num_tokens, rounds)
            )
        finally:
            engine.close()
    return [
        Cost(
            wire.name,
            statistics.median(own),
            statistics.median(written),
            statistics.median(each / first for each, first in zip(own, micros[0], strict=True)) - 1,
        )
        for wire, own, written in zip(asked, micros, writes, strict=True)
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
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--step-ms", type=float, default=4.0)
    options = parser.parse_args()
    costs = measure(options.streams, options.tokens, options.rounds, options.step_ms / 1e3)
    Console().print(table_of(costs))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({"at": at, "wires": [asdict(cost) for cost in costs]}))


if __name__ == "__main__":
    main()
