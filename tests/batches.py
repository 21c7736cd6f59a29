"""A whole server with Message Batches over a fake engine, and batches to give it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hokku.api.anthropic.batch_wire import AnthropicBatchWire
from hokku.api.config import Compatibility, Services
from hokku.blobs.directory import Directory
from hokku.protocol.batches import BatchObserver
from hokku.protocol.engine import Priority
from hokku.quotas.buckets import LocalBuckets
from hokku.service.batch_answers import BatchAnswers
from hokku.service.batch_runner import BatchRunner, RunnerConfig
from hokku.service.batches import Batches
from hokku.service.call_limits import CallLimits
from hokku.service.keys import KeyRing, hash_key
from hokku.service.messages import MessagesConfig, MessagesService
from hokku.service.reports import Reports
from hokku.service.rule_book import RuleBook
from hokku.storage.storage import Storage
from tests.api.conftest import KEY, services_of
from tests.fakes import ALIAS, FakeEngine

QUICK = RunnerConfig(num_in_flight=8, lease_secs=3.0, poll_secs=0.05, pause_secs=0.05)


@dataclass
class BatchHouse:
    """Services with batches, what is behind them, and the runner, which a test starts."""

    services: Services
    storage: Storage
    blobs: Directory
    runner: BatchRunner

    @property
    def answers(self) -> BatchAnswers:
        """A service of its own for each event loop."""
        messages = MessagesService(self.services.catalogue, MessagesConfig(priority=Priority.BATCH))
        wire = AnthropicBatchWire(self.services.catalogue, Compatibility.FRIENDLY)
        rules = RuleBook(self.storage)
        return BatchAnswers(messages, wire, self.services.catalogue.manifest, rules.refuse_spent)

    def another_runner(
        self, config: RunnerConfig = QUICK, observe: BatchObserver = lambda _conclusion: None
    ) -> BatchRunner:
        """As a second process would have."""
        return BatchRunner(self.storage, self.blobs, self.answers, config, observe)


@contextmanager
def batch_house(
    engine: FakeEngine, folder: Path, url: str | None = None, config: RunnerConfig = QUICK
) -> Iterator[BatchHouse]:
    """Parked and closed when the block ends."""
    storage = Storage(url or f"sqlite:///{folder}/hokku.db")
    blobs = Directory(folder / "blobs")
    services = services_of(engine)
    keys = KeyRing([hash_key(KEY)], storage)
    house = BatchHouse(services, storage, blobs, runner=None)  # type: ignore[arg-type]
    house.runner = house.another_runner(config)
    batches = Batches(storage, blobs, house.runner.wake)
    limits = CallLimits(storage, LocalBuckets(), "org")
    house.services = replace(
        services, keys=keys, reports=Reports(storage), batches=batches, call_limits=limits
    )
    try:
        yield house
    finally:
        house.runner.park()
        storage.close()


def a_request(custom_id: str, text: str = "Hi", **params: Any) -> dict[str, Any]:
    """One request of a batch."""
    body = {"model": ALIAS, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
    return {"custom_id": custom_id, "params": body | params}


def wait_until(is_true: Callable[[], bool], secs: float = 30.0) -> None:
    """Wait for something that other threads bring about."""
    ends_at = time.monotonic() + secs
    while not is_true():
        assert time.monotonic() < ends_at, "it never came"
        time.sleep(0.01)
