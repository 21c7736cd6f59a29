"""`kill -9` at random moments of a batch and of one that is canceled, with interactive traffic: every request has one
result and one row.

By default a few kills of a small batch; HOKKU_TEST_KILLS=50 HOKKU_TEST_REQUESTS=2000 (`make kills`) is the whole thing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import ColumnElement, func, select

from hokku.storage.schema import batch_requests, ledger, usage_days
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS
from tests.batches import a_request
from tests.fakes import ALIAS

NUM_KILLS = int(os.environ.get("HOKKU_TEST_KILLS", "3"))
NUM_REQUESTS = int(os.environ.get("HOKKU_TEST_REQUESTS", "150"))
BATCHES = "/v1/messages/batches"
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 30 * NUM_KILLS)]


class Server:
    """One life of the server's process."""

    def __init__(self, url: str, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.kills.server", url, str(folder)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        assert address, "the server did not start"
        self.client = httpx.Client(base_url=address, headers=HEADERS, timeout=30)

    def end(self, signal_number: int) -> int:
        """Send a signal and wait; the exit code."""
        self.client.close()
        self.process.send_signal(signal_number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def interactive_traffic(server: Server) -> Iterator[None]:
    """Somebody who chats, until the block ends or the server dies."""
    stopped = threading.Event()
    body = {"model": ALIAS, "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}
    address = server.client.base_url

    def chat() -> None:
        with (
            httpx.Client(base_url=address, headers=HEADERS, timeout=30) as client,
            suppress(httpx.TransportError),
        ):
            while not stopped.is_set():
                client.post("/v1/messages", json=body)

    thread = threading.Thread(target=chat)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_nothing_is_lost_and_nothing_done_twice(url: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("HOKKU_TEST_SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"HOKKU_TEST_SEED={seed}")
    moments = random.Random(seed)
    requests = [a_request(f"r{number}", f"Hi {number}") for number in range(NUM_REQUESTS)]
    requests[7]["params"]["temperature"] = 9  # never valid
    server = Server(url, tmp_path)
    batch_id = server.client.post(BATCHES, json={"requests": requests}).json()["id"]
    more = [a_request(f"r{number}") for number in range(4 * NUM_REQUESTS)]
    canceled_id = server.client.post(BATCHES, json={"requests": more}).json()["id"]
    server.client.post(f"{BATCHES}/{canceled_id}/cancel").raise_for_status()
    for _ in range(NUM_KILLS):
        with interactive_traffic(server):
            time.sleep(moments.uniform(0.0, 1.5))
            server.end(signal.SIGKILL)
        server = Server(url, tmp_path)
    with interactive_traffic(server):
        results = {each: results_of(server, each) for each in (batch_id, canceled_id)}
    assert server.end(signal.SIGTERM) == 0
    for batch, asked in ((batch_id, requests), (canceled_id, more)):
        assert sorted(line["custom_id"] for line in results[batch]) == sorted(
            each["custom_id"] for each in asked
        )
    outcomes = {batch: Counter(line["result"]["type"] for line in lines) for batch, lines in results.items()}
    assert outcomes[batch_id] == {"succeeded": NUM_REQUESTS - 1, "errored": 1}
    assert outcomes[canceled_id]["canceled"] > 0
    storage = Storage(url)
    for batch, lines in results.items():
        assert booked_outcomes(storage, batch) == outcomes[batch]
        assert booked_tokens(storage, ledger.c.batch_id == batch) == tokens_of(lines)
    with storage.database.read() as connection:
        rows = select(func.count(), func.count(ledger.c.request_id.distinct()))
        num_rows, num_ids = connection.execute(rows.where(ledger.c.tier == "standard")).one()
        summed = connection.execute(select(func.sum(usage_days.c.num_requests))).scalar()
        assert connection.execute(select(func.count()).select_from(batch_requests)).scalar() == 0
    storage.close()
    assert num_rows == num_ids
    assert int(summed or 0) == num_rows + len(requests) + len(more)
    blobs = [file.name for file in (tmp_path / "blobs").iterdir() if not file.name.endswith(".part")]
    assert 2 <= len(blobs) <= 2 + NUM_KILLS  # the results; what a kill has left is swept later


def results_of(server: Server, batch_id: str) -> list[dict[str, Any]]:
    """The results' lines, once the batch has ended."""
    while server.client.get(f"{BATCHES}/{batch_id}").json()["processing_status"] != "ended":
        time.sleep(0.05)
    text = server.client.get(f"{BATCHES}/{batch_id}/results").text
    return [json.loads(line) for line in text.splitlines()]


def tokens_of(lines: list[dict[str, Any]]) -> tuple[int, int]:
    used = [line["result"]["message"]["usage"] for line in lines if line["result"]["type"] == "succeeded"]
    return sum(each["input_tokens"] for each in used), sum(each["output_tokens"] for each in used)


def booked_outcomes(storage: Storage, batch_id: str) -> dict[str, int]:
    """How many requests of a batch have a row of each outcome."""
    counted = select(ledger.c.outcome, func.count(ledger.c.batch_position.distinct()))
    with storage.database.read() as connection:
        rows = connection.execute(counted.where(ledger.c.batch_id == batch_id).group_by(ledger.c.outcome))
        return {row[0]: row[1] for row in rows}


def booked_tokens(storage: Storage, wanted: ColumnElement[bool]) -> tuple[int, int]:
    with storage.database.read() as connection:
        sums = select(func.sum(ledger.c.input_tokens), func.sum(ledger.c.output_tokens)).where(wanted)
        num_in, num_out = connection.execute(sums).one()
        return int(num_in), int(num_out)


def test_sigterm_parks_and_a_start_goes_on(url: str, tmp_path: Path) -> None:
    server = Server(url, tmp_path)
    requests = [a_request(f"r{number}") for number in range(100)]
    batch_id = server.client.post(BATCHES, json={"requests": requests}).json()["id"]
    time.sleep(0.3)
    assert server.end(signal.SIGTERM) == 0
    storage = Storage(url)
    with storage.database.read() as connection:
        claimed = select(func.count()).where(batch_requests.c.claimed_by.is_not(None))
        assert connection.execute(claimed).scalar() == 0
    storage.close()
    server = Server(url, tmp_path)
    while (batch := server.client.get(f"{BATCHES}/{batch_id}").json())["processing_status"] != "ended":
        time.sleep(0.05)
    assert batch["request_counts"]["succeeded"] == 100
    server.end(signal.SIGTERM)
