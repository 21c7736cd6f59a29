"""What the platform costs: keys of the database, limits, ledger, draining, metrics and the log's record.

    python -m benchmarks.platform_overhead

The same requests go through applications in this process, without and with all of that, in turns: with SQLite and with
PostgreSQL, with limits in memory and in a Valkey. The first row of each is about one request at a time with an engine
that answers at once, so that milliseconds are the platform's alone (to hold: at most 1 ms more at the median). The
second is the real engine under 32 streams (to hold: at most 3 % fewer tokens a second). PostgreSQL and Valkey run
beside it on this machine's own cores; where they are not installed, their rows are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp
from tests.storage.postgres import programs as postgres_programs
from tests.storage.postgres import running_postgres
from tests.valkey import program as valkey_program
from tests.valkey import running_valkey

from benchmarks.no_sockets import post
from hokku.api.config import ApiConfig, Services
from hokku.api.http import create_app
from hokku.blobs.location import open_blobs
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
from hokku.protocol.records import LimitRule
from hokku.quotas.buckets import LocalBuckets
from hokku.quotas.valkey import ValkeyBuckets
from hokku.service.administration import Administration
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

MOST_MS = 1.0
MOST_SHARE = 0.03
_NO_LIMIT = 1_000_000_000
_ONE_REQUEST_TOKENS = 8
_WARM_UP_REQUESTS = 20
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
        body = {
            "model": "claude-3-5-haiku-latest",
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "messages": [{"role": "user", "content": question}],
        }
        headers = {"x-api-key": self.key, "anthropic-version": "2023-06-01"}
        began = time.perf_counter()
        answered = await post(self.app, "/v1/messages", body, headers)
        secs = time.perf_counter() - began
        if answered.status != 200 or b"message_stop" not in answered.last:
            raise SystemExit(f"{answered.status}: {answered.last.decode()}")
        return secs


def bare(served: ServedModel, folder: Path) -> Client:
    """The wire over the model, with one key of the settings."""
    services = _services(served, Storage("sqlite://"), folder)
    return Client(create_app(services, ApiConfig()), _KEY_OF_THE_SETTINGS)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the platform keeps what it must remember; a Valkey of "" is this process's memory."""

    name: str
    database: str
    valkey: str = ""

    def buckets(self) -> LocalBuckets | ValkeyBuckets:
        """The levels of the limits; they belong to one event loop."""
        return ValkeyBuckets(self.valkey) if self.valkey else LocalBuckets()


@contextmanager
def whole(served: ServedModel, folder: Path, stores: Stores) -> Iterator[Client]:
    """The same with everything that `hokku serve` puts around it, put together as `app.py` does."""
    storage = Storage(stores.database)
    workspace = new_workspace(f"team {secrets.token_hex(4)}")
    secret, key = new_key("client", workspace.id, "user")
    storage.keys.add_workspace(workspace)
    storage.keys.add_key(key, hash_key(secret))
    for owner in (workspace.id, None):
        storage.limits.put(LimitRule(owner, None, _NO_LIMIT, _NO_LIMIT, _NO_LIMIT, _NO_LIMIT * 1_000_000))
    catalogue, ledger, drain, config = _catalogue(served), Ledger(storage), Drain(), ApiConfig()
    booked = BookedReplies(MessagesService(catalogue), ledger, catalogue.manifest)
    limits = RateLimits(storage, stores.buckets(), config.organization_id)
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


@contextmanager
def all_stores(folder: Path) -> Iterator[list[Stores]]:
    """Every kind that this machine has, the servers' running."""
    with ExitStack() as stack:
        databases = {"SQLite": f"sqlite:///{folder / 'hokku.db'}"}
        if (found := postgres_programs()) is not None:
            databases["PostgreSQL"] = stack.enter_context(
                running_postgres(found, is_durable=True)
            ).fresh_url()
        valkeys = {"memory": ""}
        if (program := valkey_program()) is not None:
            valkeys["Valkey"] = stack.enter_context(running_valkey(program)).url
        yield [
            Stores(f"{database}, limits in {levels}", databases[database], valkeys[levels])
            for database in databases
            for levels in valkeys
        ]


def _services(served: ServedModel, storage: Storage, folder: Path) -> Services:
    catalogue = _catalogue(served)
    blobs = str(folder / "blobs")
    return Services(
        messages=MessagesService(catalogue),
        catalogue=catalogue,
        keys=KeyRing([hash_key(_KEY_OF_THE_SETTINGS)]),
        reports=Reports(storage),
        administration=Administration(storage),
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
    """What was measured of one kind of stores, in medians."""

    stores: str
    bare_ms: float
    whole_ms: float
    bare_tokens_per_sec: float
    whole_tokens_per_sec: float
    share_lost: float  # median of the rounds' ratios

    @property
    def more_ms(self) -> float:
        """What a request takes longer."""
        return self.whole_ms - self.bare_ms


Seconds = list[list[float]]  # of each client, request by request or round by round


async def one_at_a_time(clients: Sequence[Client], num_requests: int) -> Seconds:
    """Seconds of requests of each, in turns, after some that only warm up."""
    secs: Seconds = [[] for _ in clients]
    for number in range(num_requests + _WARM_UP_REQUESTS):
        for client, taken in zip(clients, secs, strict=True):
            taken.append(await client.ask(f"Question {number}", _ONE_REQUEST_TOKENS))
    return [taken[_WARM_UP_REQUESTS:] for taken in secs]


async def many_streams(clients: Sequence[Client], num_streams: int, max_tokens: int, rounds: int) -> Seconds:
    """Seconds of rounds of each, in turns, after one that only warms up."""
    secs: Seconds = [[] for _ in clients]
    for number in range(rounds + 1):
        # Whoever goes second finds the caches warm; so they take turns in that too.
        for place in _rotated(range(len(clients)), number):
            questions = [f"Write a very long story of {days} days." for days in range(num_streams)]
            began = time.perf_counter()
            await asyncio.gather(*(clients[place].ask(question, max_tokens) for question in questions))
            secs[place].append(time.perf_counter() - began)
    return [taken[1:] for taken in secs]


def _rotated(places: range, by: int) -> list[int]:
    return [places[(place + by) % len(places)] for place in places]


def measure(num_requests: int, num_streams: int, max_tokens: int, rounds: int) -> list[Overhead]:
    """Both comparisons, for every kind of stores."""
    served = open_model(load_settings({}, os.environ)).served
    instant = replace(served, engine=InstantEngine())
    with TemporaryDirectory() as name, all_stores(Path(name)) as kinds:
        folder = Path(name)
        try:
            # One kind at a time: what the others still write to their ledgers would count for this one.
            singles = [
                _compared(instant, folder, [stores], lambda each: one_at_a_time(each, num_requests))
                for stores in kinds
            ]
            streams = _compared(
                served, folder, kinds, lambda each: many_streams(each, num_streams, max_tokens, rounds)
            )
        finally:
            served.engine.close()
    num_tokens = num_streams * max_tokens
    return [
        Overhead(
            stores.name,
            statistics.median(singles[place - 1][0]) * 1e3,
            statistics.median(singles[place - 1][1]) * 1e3,
            num_tokens / statistics.median(streams[0]),
            num_tokens / statistics.median(streams[place]),
            1 - statistics.median(bare / full for bare, full in zip(streams[0], streams[place], strict=True)),
        )
        for place, stores in enumerate(kinds, start=1)
    ]


def _compared(
    served: ServedModel,
    folder: Path,
    kinds: Sequence[Stores],
    comparison: Callable[[Sequence[Client]], Coroutine[Any, Any, Seconds]],
) -> Seconds:
    """The bare wire first, then each kind; on the loop that `hokku serve` uses."""
    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        full = [stack.enter_context(whole(served, folder, stores)) for stores in kinds]
        return runner.run(comparison([bare(served, folder), *full]))


def table_of(overheads: Sequence[Overhead], num_streams: int) -> Table:
    """Two rows for each kind of stores."""
    table = Table("", "Bare", "Whole", "More", "To hold", title="What the platform costs")
    for overhead in overheads:
        table.add_row(
            f"{overhead.stores}: one request, p50",
            f"{overhead.bare_ms:.2f} ms",
            f"{overhead.whole_ms:.2f} ms",
            f"{overhead.more_ms:.2f} ms",
            f"≤ {MOST_MS} ms",
        )
        table.add_row(
            f"{overhead.stores}: {num_streams} streams",
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
    overheads = measure(options.requests, options.streams, options.tokens, options.rounds)
    Console().print(table_of(overheads, options.streams))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    print(json.dumps({"at": at, "tokens": options.tokens, "stores": [asdict(each) for each in overheads]}))


if __name__ == "__main__":
    main()
