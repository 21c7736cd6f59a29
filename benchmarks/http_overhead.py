"""What HTTP costs: the same greedy replies through `hokku serve` and from the engine in process.

    python -m benchmarks.http_overhead --streams 1 16 32 --rounds 5

`make bench` has this comparison for 32 streams (W7). Here stand beside it the processor microseconds a token, from
Linux's own accounts of threads (`/proc/PID/task/TID/schedstat`): of the server's event loop, system calls included, and
of the client. They are what the engine's threads on the same cores have to give up, and far steadier than rates on a
busy machine. Both sides must generate the same number of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.engines.hokku_server import STREAMED_MESSAGES, hokku_server
from benchmarks.engines.http_load import HttpSession
from benchmarks.engines.job import Job, Needs, Prompt
from hokku.opening import open_model
from hokku.protocol.engine import (
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Sampling,
    Tokens,
)
from hokku.protocol.messages import Conversation, TextPart, Turn
from hokku.service.models import EncodedPrompt, ServedModel
from hokku.settings import load_settings

# The server is started with the settings of this environment, whatever room its engine then has.
NEEDS = Needs(model="", threads=0, streams=0, window_tokens=0, total_tokens=0)


@dataclass(frozen=True, slots=True)
class Round:
    """One set of streams, from the first request to the last end."""

    num_tokens: int
    secs: float
    loop_ns: int = 0
    client_ns: int = 0

    @property
    def tokens_per_sec(self) -> float:
        """All streams together."""
        return self.num_tokens / self.secs


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians for one number of streams."""

    num_streams: int
    engine_tokens_per_sec: float
    http_tokens_per_sec: float
    http_share: float  # median of the rounds' ratios
    loop_us_a_token: float
    client_us_a_token: float


def prompts(num_streams: int) -> tuple[Prompt, ...]:
    """Short questions that differ, with long answers."""
    ask = "Write a very long story about a journey that takes {} days, with many chapters."
    return tuple(Prompt((), user=ask.format(number)) for number in range(num_streams))


def engine_round(served: ServedModel, num_streams: int, max_tokens: int) -> Round:
    """The generations at the engine's port. Tokens that end a turn count, as they do in a reply's usage."""
    ends: queue.SimpleQueue[Finished | Failed] = queue.SimpleQueue()
    counts = [0] * num_streams

    def submit(number: int, prompt: EncodedPrompt) -> None:
        def sink(event: EngineEvent) -> None:
            match event:
                case Tokens(ids=ids):
                    counts[number] += len(ids)
                case Finished(reason=reason):
                    counts[number] += reason is FinishReason.STOP_TOKEN
                    ends.put(event)
                case Failed():
                    ends.put(event)

        greedy, stops = Sampling(temperature=0), prompt.stop_token_ids
        request = GenerationRequest(prompt.token_ids, max_tokens, greedy, stops, cache_scope="bench")
        served.engine.submit(request, sink)

    began = time.perf_counter()
    for number, prompt in enumerate(prompts(num_streams)):
        conversation = Conversation((), (Turn("user", (TextPart(prompt.user),)),))
        submit(number, served.codec.encode(conversation))
    for _ in range(num_streams):
        match ends.get():
            case Failed(error=error):
                raise error
    return Round(sum(counts), time.perf_counter() - began)


def http_round(session: HttpSession, num_streams: int, max_tokens: int) -> Round:
    """The same through HTTP, every stream on its own connection."""
    job = Job(prompts(num_streams), max_new_tokens=max_tokens, at_a_time=num_streams)
    loop_before, client_before = loop_ns(session), time.thread_time_ns()
    timing = session.run(job)
    client = time.thread_time_ns() - client_before
    return Round(timing.output_tokens, timing.secs, loop_ns(session) - loop_before, client)


def loop_ns(session: HttpSession) -> int:
    """Processor time of the server's first thread, which runs the event loop."""
    schedstat = Path(f"/proc/{session.pid}/task/{session.pid}/schedstat")
    return int(schedstat.read_text().split()[0])


def compare(
    served: ServedModel, session: HttpSession, num_streams: int, max_tokens: int, rounds: int
) -> Comparison:
    """Rounds of both in alternation, after one of each that only warms up."""
    pairs = []
    for _ in range(rounds + 1):
        inside = engine_round(served, num_streams, max_tokens)
        through = http_round(session, num_streams, max_tokens)
        if inside.num_tokens != through.num_tokens:
            raise SystemExit(f"{inside.num_tokens} tokens in process, {through.num_tokens} through HTTP")
        pairs.append((inside, through))
    pairs = pairs[1:]
    median = statistics.median
    return Comparison(
        num_streams,
        median(inside.tokens_per_sec for inside, _ in pairs),
        median(through.tokens_per_sec for _, through in pairs),
        median(through.tokens_per_sec / inside.tokens_per_sec for inside, through in pairs),
        median(through.loop_ns / 1e3 / through.num_tokens for _, through in pairs),
        median(through.client_ns / 1e3 / through.num_tokens for _, through in pairs),
    )


def table_of(comparisons: Sequence[Comparison]) -> Table:
    """One row for each number of streams."""
    columns = ("Streams", "In process", "Through HTTP", "Share", "Loop", "Client")
    table = Table(*columns, title="Tokens/s, and processor time a token")
    for row in comparisons:
        table.add_row(
            str(row.num_streams),
            f"{row.engine_tokens_per_sec:,.0f}",
            f"{row.http_tokens_per_sec:,.0f}",
            f"{row.http_share:.1%}",
            f"{row.loop_us_a_token:.1f} µs",
            f"{row.client_us_a_token:.1f} µs",
        )
    return table


def main() -> None:
    """Measure, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    served = open_model(load_settings({}, os.environ)).served
    with tempfile.TemporaryDirectory() as folder:
        session = hokku_server(NEEDS, Path(folder, "server.log"), STREAMED_MESSAGES)
        try:
            rows = [
                compare(served, session, num_streams, options.tokens, options.rounds)
                for num_streams in options.streams
            ]
        finally:
            session.close()
            served.engine.close()
    Console().print(table_of(rows))
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
