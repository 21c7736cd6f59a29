"""What the platform costs: keys of the database, limits, ledger, draining, metrics and the log's record.

    python -m benchmarks.platform_overhead

The same requests go through two applications in this process, with and without all of that, in turns. The first row is
about one request at a time with an engine that answers at once, so that milliseconds are the platform's alone (to hold:
at most 1 ms more at the median). The second is the real engine under 32 streams (to hold: at most 3 % fewer tokens a
second). The database is SQLite's, on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Message, Scope

from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.app import open_model
from hokku.blobs.location import open_blobs
from hokku.protocol.engine import (
    EngineStats,
    EventSink,
    Finished,
    FinishReason,
    GenerationRequest,
    Started,
    Tokens,
)
from hokku.protocol.records import LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.service.batches import Batches
from hokku.service.booking import BookedReplies
from hokku.service.draining import Drain, DrainingReplies
from hokku.service.files import Files
from hokku.service.key_making import new_key, new_workspace
from hokku.service.keys import KeyRing, hash_key
from hokku.service.ledger import Ledger
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.models import Catalogue, ServedModel
from hokku.service.rate_limits import RateLimits
from hokku.service.readiness import Readiness
from hokku.service.reports import Reports
from hokku.settings import load_settings
from hokku.storage.storage import Storage
from hokku.telemetry.logs import log_exchange
from hokku.telemetry.metrics import Metrics

T = TypeVar("T")

MOST_MS = 1.0
MOST_SHARE = 0.03
_NO_LIMIT = 1_000_000_000
_ONE_REQUEST_TOKENS = 8
_KEY_OF_THE_SETTINGS = "a key of the settings"


class InstantEngine:
    """Every reply is there at once."""

    context_window_tokens = 1 << 20

    def submit(self, request: GenerationRequest, sink: EventSink) -> InstantEngine:
        """See `Engine`."""
        sink(Started(cached_tokens=0))
        sink(Tokens(tuple(range(100, 100 + request.max_new_tokens))))
        sink(Finished(FinishReason.MAX_TOKENS))
        return self

    def cancel(self) -> None:
        """See `RequestHandle`."""

    def stats(self) -> EngineStats:
        """See `Engine`."""
        return EngineStats(0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """See `Engine`."""


@dataclass(frozen=True, slots=True)
class Client:
    """An application and a key that it knows, asked without sockets."""

    app: ASGIApp
    key: str

    async def ask(self, question: str, max_tokens: int) -> float:
        """The seconds that a streamed reply takes."""
        body = json.dumps(
            {
                "model": "claude-3-5-haiku-latest",
                "max_tokens": max_tokens,
                "temperature": 0,
                "stream": True,
                "messages": [{"role": "user", "content": question}],
            }
        ).encode()
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        status, last = 0, b""

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.sleep(3600)  # never leaves
            raise AssertionError

        async def send(message: Message) -> None:
            nonlocal status, last
            status = message.get("status", status)
            last = message.get("body") or last

        began = time.perf_counter()
        await self.app(self._scope(len(body)), receive, send)
        secs = time.perf_counter() - began
        if status != 200 or b"message_stop" not in last:
            raise SystemExit(f"{status}: {last.decode()}")
        return secs

    def _scope(self, num_bytes: int) -> Scope:
        headers = {
            "x-api-key": self.key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            "content-length": str(num_bytes),
        }
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/messages",
            "raw_path": b"/v1/messages",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }


def bare(served: ServedModel, folder: Path) -> Client:
    """The wire over the model, with one key of the settings."""
    services = _services(served, Storage("sqlite://"), folder)
    return Client(create_app(services, ApiConfig()), _KEY_OF_THE_SETTINGS)


@contextmanager
def whole(served: ServedModel, folder: Path) -> Iterator[Client]:
    """The same with everything that `hokku serve` puts around it, put together as `app.py` does."""
    storage = Storage(f"sqlite:///{folder / 'hokku.db'}")
    workspace = new_workspace("team")
    secret, key = new_key("client", workspace.id, "user")
    storage.keys.add_workspace(workspace)
    storage.keys.add_key(key, hash_key(secret))
    for owner in (workspace.id, None):
        storage.limits.put(LimitRule(owner, None, _NO_LIMIT, _NO_LIMIT, _NO_LIMIT, _NO_LIMIT * 1_000_000))
    catalogue, ledger, drain, config = _catalogue(served), Ledger(storage), Drain(), ApiConfig()
    booked = BookedReplies(MessagesService(catalogue), ledger, catalogue.manifest)
    limits = RateLimits(storage, LocalBuckets(), config.organization_id)
    limited = LimitedReplies(booked, limits, catalogue.manifest)
    metrics = Metrics(lambda: [(model.id, model.engine.stats()) for model in catalogue.served], lambda: 0)
    services = replace(
        _services(served, storage, folder),
        messages=DrainingReplies(limited, drain),
        keys=KeyRing([hash_key(_KEY_OF_THE_SETTINGS)], storage),
        metrics=metrics,
        observers=(metrics.observe, log_exchange),
    )
    try:
        yield Client(create_app(services, config), secret)
    finally:
        ledger.close()
        storage.close()


def _services(served: ServedModel, storage: Storage, folder: Path) -> Services:
    catalogue = _catalogue(served)
    blobs = str(folder / "blobs")
    return Services(
        messages=MessagesService(catalogue),
        catalogue=catalogue,
        keys=KeyRing([hash_key(_KEY_OF_THE_SETTINGS)]),
        reports=Reports(storage),
        batches=Batches(storage, open_blobs(blobs, "batches"), lambda: None),
        readiness=Readiness(catalogue, Drain(), storage.ping),
        files=Files(storage, open_blobs(blobs, "files")),
    )


def _catalogue(served: ServedModel) -> Catalogue:
    catalogue = Catalogue([served.manifest], {"claude-3-5-haiku-latest": served.id})
    catalogue.put(served)
    return catalogue


@dataclass(frozen=True, slots=True)
class Overhead:
    """What was measured, in medians."""

    bare_ms: float
    whole_ms: float
    bare_tokens_per_sec: float
    whole_tokens_per_sec: float
    share_lost: float  # median of the rounds' ratios

    @property
    def more_ms(self) -> float:
        """What a request takes longer."""
        return self.whole_ms - self.bare_ms


async def one_at_a_time(plain: Client, full: Client, num_requests: int) -> tuple[float, float]:
    """Median milliseconds of a request of each, in turns, after some that only warm up."""
    secs: tuple[list[float], list[float]] = ([], [])
    for number in range(num_requests + 20):
        for client, taken in zip((plain, full), secs, strict=True):
            taken.append(await client.ask(f"Question {number}", _ONE_REQUEST_TOKENS))
    plain_secs, full_secs = (statistics.median(taken[20:]) for taken in secs)
    return plain_secs * 1e3, full_secs * 1e3


async def many_streams(
    plain: Client, full: Client, num_streams: int, max_tokens: int, rounds: int
) -> list[tuple[float, float]]:
    """Seconds of rounds of each, in turns, after one that only warms up."""
    taken = []
    for number in range(rounds + 1):
        pair = {}
        # Whoever goes second finds the caches warm; so they take turns in that too.
        for client in (plain, full) if number % 2 else (full, plain):
            questions = [f"Write a very long story of {days} days." for days in range(num_streams)]
            began = time.perf_counter()
            await asyncio.gather(*(client.ask(question, max_tokens) for question in questions))
            pair[client.key] = time.perf_counter() - began
        taken.append((pair[plain.key], pair[full.key]))
    return taken[1:]


def measure(num_requests: int, num_streams: int, max_tokens: int, rounds: int) -> Overhead:
    """Both comparisons."""
    served = open_model(load_settings({}, os.environ)).served
    instant = replace(served, engine=InstantEngine())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        try:
            with whole(instant, Path(one)) as full:
                bare_ms, whole_ms = _run(one_at_a_time(bare(instant, Path(one)), full, num_requests))
            with whole(served, Path(other)) as full:
                pairs = _run(many_streams(bare(served, Path(other)), full, num_streams, max_tokens, rounds))
        finally:
            served.engine.close()
    num_tokens = num_streams * max_tokens
    return Overhead(
        bare_ms,
        whole_ms,
        statistics.median(num_tokens / plain for plain, _ in pairs),
        statistics.median(num_tokens / full for _, full in pairs),
        1 - statistics.median(plain / full for plain, full in pairs),
    )


def _run(comparison: Coroutine[Any, Any, T]) -> T:
    """On the loop that `hokku serve` uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(comparison)


def table_of(overhead: Overhead, num_streams: int) -> Table:
    """One row for each comparison."""
    table = Table("", "Bare", "Whole", "More", "To hold", title="What the platform costs")
    more = f"{overhead.more_ms:.2f} ms"
    table.add_row(
        "one request, p50",
        f"{overhead.bare_ms:.2f} ms",
        f"{overhead.whole_ms:.2f} ms",
        more,
        f"≤ {MOST_MS} ms",
    )
    table.add_row(
        f"{num_streams} streams, at most",
        f"{overhead.bare_tokens_per_sec:,.0f} tokens/s",
        f"{overhead.whole_tokens_per_sec:,.0f} tokens/s",
        f"{overhead.share_lost:.1%}",
        f"≤ {MOST_SHARE:.0%}",
    )
    return table


def main() -> None:
    """Measure, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    overhead = measure(options.requests, options.streams, options.tokens, options.rounds)
    Console().print(table_of(overhead, options.streams))
    print(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(overhead)}))


if __name__ == "__main__":
    main()
