"""W10: how long those who chat wait for a first token beside a batch, and how far the batch gets meanwhile.

    python -m benchmarks.beside_a_batch

One server, three spans of time: chats alone, a batch of 10,000 requests alone, both. The chats come at times that are
drawn once (a Poisson process), whether or not earlier ones have been answered, and each reply is streamed. What the
chats leave of the machine is taken from the processor time that the server needs for them alone, so the batch is to
reach its own speed times the share of the cores that is then idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.contestants import usable_cores
from benchmarks.engines.hokku_batches import BatchClient, batch_body
from benchmarks.engines.hokku_server import DEFAULT_SNAPSHOT, STREAMED_MESSAGES, hokku_server
from benchmarks.engines.http_load import HttpSession
from benchmarks.engines.job import EngineProblem, Needs, Prompt, one_line
from benchmarks.tickets import LABELS, ticket
from benchmarks.usage import cpu_secs, resident_bytes

CHATS_PER_SEC = 2.0
CHAT_TOKENS = 48
BATCH_REQUESTS = 10_000
BATCH_TOKENS = 48
MOST_RATIO = 1.5
LEAST_SHARE = 0.8
_SPAN_SECS = 40.0
_WARM_SECS = 3.0
_SETTLE_SECS = 5.0  # from handing the batch in until it is in the middle of its work
_FIRST_TEXT = b'"text_delta"'
_WORDS = (
    "river", "stone", "market", "window", "engine", "garden", "letter", "winter",
    "bridge", "copper", "lantern", "violin", "harbour", "meadow", "ticket", "bottle",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found."""

    first_token_ms_alone: float  # p95
    first_token_ms_beside: float  # p95
    num_chats: int  # in each of the two spans
    batch_per_sec_alone: float
    batch_per_sec_beside: float
    busy_share: float  # of the cores, by chats alone
    resident_mb: float  # at the end

    @property
    def ratio(self) -> float:
        """How much longer a first token takes beside a batch."""
        return self.first_token_ms_beside / self.first_token_ms_alone

    @property
    def left_per_sec(self) -> float:
        """Requests a second that the batch would get through with what the chats leave."""
        return (1 - self.busy_share) * self.batch_per_sec_alone

    @property
    def share(self) -> float:
        """How much of that it did."""
        return self.batch_per_sec_beside / self.left_per_sec


def batch_prompts(num_requests: int) -> list[Prompt]:
    """Tickets to be answered in some words, behind instructions that all share."""
    meanings = " ".join(f"{label.replace('_', ' ')}: {meaning}." for label, meaning in LABELS.items())
    system = f"You answer the messages that customers write to a shop's support desk. {meanings}"
    return [
        Prompt((), system, f"Write a reply to this message: {ticket(number)[0]}")
        for number in range(num_requests)
    ]


def chat(number: int, span: str) -> bytes:
    """The body of a question of some 60 to 130 tokens that nobody has asked before."""
    dice = random.Random(number)
    words = " ".join(dice.choice(_WORDS) for _ in range(dice.randrange(20, 90)))
    question = f"Question {number} of {span}. Tell me a story in which these words come: {words}."
    return STREAMED_MESSAGES.body(Prompt((), "", question), CHAT_TOKENS)


def arrivals(span_secs: float) -> Iterator[float]:
    """When chats come, in seconds: the same in every span."""
    dice = random.Random(10)
    at = dice.expovariate(CHATS_PER_SEC)
    while at < span_secs:
        yield at
        at += dice.expovariate(CHATS_PER_SEC)


async def first_token_secs(port: int, body: bytes) -> float:
    """Ask, and read the whole reply. Raises `EngineProblem` for one without text."""
    head = {"Host": "127.0.0.1", "Content-Length": str(len(body)), "Connection": "close"}
    head |= {"Content-Type": "application/json", **STREAMED_MESSAGES.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {STREAMED_MESSAGES.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
    secs, reply = 0.0, b""
    while piece := await reader.read(1 << 16):
        reply += piece
        if not secs and _FIRST_TEXT in reply:
            secs = time.perf_counter() - began
    writer.close()
    if not secs:
        raise EngineProblem(f"a chat was answered {one_line(reply.decode(errors='replace'))}")
    return secs


async def chats(port: int, span: str, span_secs: float) -> list[float]:
    """All chats of a span; each one's seconds to its first token."""
    began = time.perf_counter()
    under_way = []
    for number, at in enumerate(arrivals(span_secs)):
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        under_way.append(asyncio.create_task(first_token_secs(port, chat(number, span))))
    return await asyncio.gather(*under_way)


def p95(values: Sequence[float]) -> float:
    """The value that 95 % do not exceed."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


@contextmanager
def default_server(log: Path) -> Iterator[HttpSession]:
    """`hokku serve` with the default model."""
    needs = Needs(DEFAULT_SNAPSHOT, usable_cores(), streams=64, window_tokens=0, total_tokens=0)
    server = hokku_server(needs, log)
    try:
        yield server
    finally:
        server.close()


def measure(log: Path, span_secs: float = _SPAN_SECS) -> Measured:
    """All three spans. Raises `EngineProblem`."""
    with default_server(log) as server:
        assert server.pid is not None
        port, batches = server.port, BatchClient(server.port)
        asyncio.run(chats(port, "the warm-up", _WARM_SECS))
        cpu_before, began = cpu_secs(server.pid), time.perf_counter()
        alone = asyncio.run(chats(port, "the first span", span_secs))
        busy = (cpu_secs(server.pid) - cpu_before) / (time.perf_counter() - began) / usable_cores()

        batch_id = batches.create(batch_body(batch_prompts(BATCH_REQUESTS), BATCH_TOKENS))

        def rate_until(num_done: int, began: float) -> float:
            return (batches.num_done(batch_id) - num_done) / (time.perf_counter() - began)

        time.sleep(_SETTLE_SECS)
        num_done, began = batches.num_done(batch_id), time.perf_counter()
        time.sleep(span_secs / 2)
        rate_alone = rate_until(num_done, began)
        num_done, began = batches.num_done(batch_id), time.perf_counter()
        beside = asyncio.run(chats(port, "the last span", span_secs))
        rate_beside = rate_until(num_done, began)
        resident_mb = resident_bytes(server.pid) / 1e6
        batches.cancel(batch_id)
    return Measured(
        p95(alone) * 1e3, p95(beside) * 1e3, len(beside), rate_alone, rate_beside, busy, resident_mb
    )


def table_of(measured: Measured) -> Table:
    """For the terminal."""
    table = Table("", "Alone", "Both", "", "To hold", title="Chats beside a batch")
    table.add_row(
        f"first token of a chat, p95 of {measured.num_chats}",
        f"{measured.first_token_ms_alone:.0f} ms",
        f"{measured.first_token_ms_beside:.0f} ms",
        f"{measured.ratio:.2f}×",
        f"≤ {MOST_RATIO}×",
    )
    table.add_row(
        f"the batch, where chats take {measured.busy_share:.0%} of the cores",
        f"{measured.batch_per_sec_alone:.1f} requests/s",
        f"{measured.batch_per_sec_beside:.1f} requests/s",
        f"{measured.share:.0%} of what is left",
        f"≥ {LEAST_SHARE:.0%}",
    )
    return table


def main() -> None:
    """Measure, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--span-secs", type=float, default=_SPAN_SECS)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder) / "serve.log", parser.parse_args().span_secs)
    Console().print(table_of(measured))
    print(json.dumps(asdict(measured) | {"ratio": measured.ratio, "share": measured.share}))


if __name__ == "__main__":
    main()
