"""PostgreSQL and Valkey end under traffic, as if their power failed, and come back: requests get an error meanwhile,
the server recovers by itself, and nothing is lost or booked twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.protocol.records import LimitRule
from hokku.quotas.valkey import ValkeyBuckets
from hokku.service.booking import BookedReplies
from hokku.service.key_making import new_key, new_workspace
from hokku.service.keys import KeyRing, hash_key
from hokku.service.ledger import Ledger
from hokku.service.limited import LimitedReplies
from hokku.service.messages import MessagesService
from hokku.service.rate_limits import RateLimits
from hokku.service.replies import Replies
from hokku.storage.schema import ledger
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS, services_of
from tests.batches import a_request, batch_house, wait_until
from tests.fakes import ALIAS, FakeEngine
from tests.live import live_server
from tests.quotas.conftest import valkey as valkey
from tests.storage.postgres import Postgres
from tests.valkey import Valkey

NUM_CLIENTS = 8
BODY = {"model": ALIAS, "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}
BATCHES = "/v1/messages/batches"

pytestmark = pytest.mark.slow


class Traffic:
    """Clients that ask again and again, and what they were told."""

    def __init__(self, url: str, secret: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.errors: set[str] = set()
        self._url = url
        self._headers = HEADERS | {"x-api-key": secret}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(NUM_CLIENTS)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, status: int) -> None:
        """Until a few more answers with this status have come."""
        enough = self.statuses[status] + 2 * NUM_CLIENTS
        wait_until(lambda: self.statuses[status] >= enough)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=60) as client:
            while not self._stopped.is_set():
                response = client.post("/v1/messages", json=BODY)
                with self._lock:
                    self.statuses[response.status_code] += 1
                    if response.is_error:
                        self.errors.add(response.json()["error"]["message"])


@contextmanager
def platform(storage: Storage, buckets: ValkeyBuckets | None = None) -> Iterator[tuple[Traffic, Ledger]]:
    """A live server with a key of the database and a ledger, and traffic that uses it."""
    engine, book = FakeEngine(), Ledger(storage)
    services = services_of(engine)
    booked = BookedReplies(MessagesService(services.catalogue), book, services.catalogue.manifest)
    messages: Replies = booked
    if buckets:
        storage.limits.put(LimitRule(None, None, requests_per_minute=1_000_000))
        limits = RateLimits(storage, buckets, "org")
        messages = LimitedReplies(booked, limits, services.catalogue.manifest)
    workspace = new_workspace("team")
    secret, key = new_key("client", workspace.id, "user")
    storage.keys.add_workspace(workspace)
    storage.keys.add_key(key, hash_key(secret))
    services = replace(services, messages=messages, keys=KeyRing([], storage))
    closers = [buckets.close] if buckets else []
    with live_server(create_app(services, ApiConfig(), closers)) as url, Traffic(url, secret) as traffic:
        yield traffic, book
    engine.close()


def num_booked(storage: Storage) -> tuple[int, int]:
    """Rows of the ledger, and of those the ones with an id of their own."""
    counts = select(func.count(), func.count(ledger.c.request_id.distinct()))
    with storage.database.read() as connection:
        rows, ids = connection.execute(counts).one()
    return rows, ids


def test_postgres_ends_under_traffic(postgres: Postgres) -> None:
    storage = Storage(postgres.fresh_url())
    with platform(storage) as (traffic, book):
        for _ in range(2):
            traffic.wait_for_more(200)
            postgres.stop()
            try:
                traffic.wait_for_more(503)
            finally:
                postgres.start()
        traffic.wait_for_more(200)
    assert set(traffic.statuses) == {200, 503}
    assert traffic.errors == {"The database is unavailable"}
    assert book.flush(30)  # what ended while it was away is booked by now
    num_good = traffic.statuses[200]
    assert num_booked(storage) == (num_good, num_good)
    book.close()
    storage.close()


def test_postgres_ends_in_the_middle_of_a_batch(postgres: Postgres, tmp_path: Path) -> None:
    engine = FakeEngine(step_secs=0.002)
    requests = [a_request(f"r{number}", f"Hi {number}") for number in range(300)]
    with (
        batch_house(engine, tmp_path, postgres.fresh_url()) as house,
        live_server(create_app(house.services, ApiConfig())) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=60) as client,
    ):
        batch_id = client.post(BATCHES, json={"requests": requests}).json()["id"]
        house.runner.start()

        def batch() -> dict[str, object]:
            shown: dict[str, object] = client.get(f"{BATCHES}/{batch_id}").json()
            return shown

        wait_until(lambda: house.storage.batches.find(batch_id).counts.succeeded >= 20)
        postgres.stop()
        try:
            assert client.get(f"{BATCHES}/{batch_id}").status_code == 503
            num_asked = len(engine.requests)
            wait_until(lambda: house.runner._trouble == "The database is unavailable")
            time.sleep(0.2)
            assert len(engine.requests) <= num_asked + 16  # it has stopped to compute what it cannot keep
        finally:
            postgres.start()
        wait_until(lambda: batch()["processing_status"] == "ended")
        assert batch()["request_counts"] == {
            "processing": 0,
            "succeeded": 300,
            "errored": 0,
            "canceled": 0,
            "expired": 0,
        }
        assert len(client.get(f"{BATCHES}/{batch_id}/results").text.splitlines()) == 300
        assert num_booked(house.storage) == (300, 300)
    engine.close()


def test_valkey_ends_under_traffic(valkey: Valkey, tmp_path: Path) -> None:
    """Closed rather than open: nobody gets more than was agreed because a machine is down."""
    storage = Storage(f"sqlite:///{tmp_path}/hokku.db")
    with platform(storage, ValkeyBuckets(valkey.url)) as (traffic, book):
        for _ in range(2):
            traffic.wait_for_more(200)
            valkey.stop()
            try:
                traffic.wait_for_more(503)
            finally:
                valkey.start()
        traffic.wait_for_more(200)
    assert set(traffic.statuses) == {200, 503}
    assert traffic.errors == {"The rate limits' store is unavailable"}
    assert book.flush(30)
    num_good = traffic.statuses[200]
    assert num_booked(storage) == (num_good, num_good)
    book.close()
    storage.close()
