"""Whether memory stays flat however long a batch is.

    python -m benchmarks.batch_memory                               # `hokku serve`, the default model
    python -m benchmarks.batch_memory --instant --requests 100000   # an engine that answers at once, in this process

The first row that counts is the one with a fifth of the batch done: by then everything has been used once.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.beside_a_batch import BATCH_TOKENS, batch_prompts, default_server
from benchmarks.engines.hokku_batches import BatchClient, batch_body, batch_request
from benchmarks.engines.job import EngineProblem
from benchmarks.platform_overhead import InstantEngine
from benchmarks.usage import resident_bytes
from hokku.api.anthropic.batch_wire import AnthropicBatchWire
from hokku.api.config import Compatibility
from hokku.blobs.directory import Directory
from hokku.opening import open_model
from hokku.protocol.engine import Priority
from hokku.service.batch_answers import BatchAnswers
from hokku.service.batch_runner import BatchRunner, RunnerConfig
from hokku.service.batches import Batches
from hokku.service.keys import Identity
from hokku.service.messages import MessagesConfig, MessagesService
from hokku.service.models import Catalogue
from hokku.settings import load_settings
from hokku.storage.storage import Storage

MOST_GROWTH = 0.1
_PARTS = 10
_WARM_PARTS = 2
_POLL_SECS = 0.5
_DIALECT = '{"version": "2023-06-01", "betas": []}'


@contextmanager
def served(num_requests: int, folder: Path) -> Iterator[tuple[int, Callable[[], int]]]:
    """A batch in a server; the server's process, and how many requests are done."""
    with default_server(folder / "serve.log") as server:
        assert server.pid is not None
        batches = BatchClient(server.port)
        batch_id = batches.create(batch_body(batch_prompts(num_requests), BATCH_TOKENS))
        yield server.pid, lambda: batches.num_done(batch_id)


@contextmanager
def instant(num_requests: int, folder: Path) -> Iterator[tuple[int, Callable[[], int]]]:
    """A batch in this process, whose engine needs neither time nor memory."""
    opened = open_model(load_settings({}, os.environ))
    opened.engine.close()
    model = replace(opened.served, engine=InstantEngine())
    catalogue = Catalogue([model.manifest], {})
    catalogue.put(model)
    storage = Storage(f"sqlite:///{folder}/hokku.db")
    blobs = Directory(folder / "blobs")
    messages = MessagesService(catalogue, MessagesConfig(priority=Priority.BATCH))
    answers = BatchAnswers(
        messages, AnthropicBatchWire(catalogue, Compatibility.FRIENDLY), catalogue.manifest
    )
    runner = BatchRunner(storage, blobs, answers, RunnerConfig())
    draft = Batches(storage, blobs).draft(Identity(), _DIALECT)
    for number, prompt in enumerate(batch_prompts(num_requests)):
        draft.take(str(number), batch_request(number, prompt, BATCH_TOKENS), b"")
    batch = draft.keep()
    del draft
    runner.start()

    def num_done() -> int:
        counts = storage.batches.find(batch.id).counts
        if counts.errored:
            raise EngineProblem(f"{counts.errored} requests failed")
        return counts.succeeded

    try:
        yield os.getpid(), num_done
    finally:
        runner.park()
        storage.close()


def watch(num_requests: int, pid: int, num_done: Callable[[], int]) -> list[float]:
    """Resident megabytes whenever another part of the batch is done, the start first."""
    resident = [resident_bytes(pid) / 1e6]
    while len(resident) <= _PARTS:
        while num_done() * _PARTS < len(resident) * num_requests:
            time.sleep(_POLL_SECS)
        resident.append(resident_bytes(pid) / 1e6)
    return resident


def growth(resident_mb: list[float]) -> float:
    """From the end of the warm-up to the most of what came after."""
    return max(resident_mb[_WARM_PARTS:]) / resident_mb[_WARM_PARTS] - 1


def main() -> None:
    """Watch, print the table, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--instant", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        batch = (instant if options.instant else served)(options.requests, Path(folder))
        with batch as (pid, num_done):
            resident_mb = watch(options.requests, pid, num_done)
    table = Table(
        "Requests done", "Resident", title=f"Growth {growth(resident_mb):.1%}, to hold ≤ {MOST_GROWTH:.0%}"
    )
    for part, megabytes in enumerate(resident_mb):
        table.add_row(f"{options.requests * part // _PARTS:,}", f"{megabytes:,.0f} MB")
    Console().print(table)
    found = {"secs": time.perf_counter() - began, "resident_mb": resident_mb, "growth": growth(resident_mb)}
    print(json.dumps(vars(options) | found))


if __name__ == "__main__":
    main()
