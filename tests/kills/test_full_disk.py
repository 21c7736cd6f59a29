"""A disk that is really full under a server's process: what the kernel refuses to write, no test double does.

The limit on the size of its files (setrlimit(2), RLIMIT_FSIZE) is put on the process, and taken away again while it
runs.
"""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hokku.storage.schema import ledger
from hokku.storage.storage import Storage
from tests.api.test_body_errors import GOOD
from tests.batches import a_request
from tests.kills.test_kills import BATCHES, Server, booked_outcomes, results_of

NUM_REQUESTS = 600
LIMIT_BYTES = 4_096  # of each file: less than the database has already

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def limit_files(server: Server, num_bytes: int) -> None:
    _, most = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (num_bytes, most))


def test_a_batch_pauses_and_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hokku.db"
    server = Server(url, tmp_path)
    requests = [a_request(f"r{number}") for number in range(NUM_REQUESTS)]
    batch_id = server.client.post(BATCHES, json={"requests": requests}).json()["id"]
    limit_files(server, LIMIT_BYTES)
    time.sleep(1.0)  # longer than what had been answered needs to be written
    paused = server.client.get(f"{BATCHES}/{batch_id}").json()
    time.sleep(1.0)
    assert server.client.get(f"{BATCHES}/{batch_id}").json() == paused
    assert paused["processing_status"] == "in_progress"
    assert paused["request_counts"]["processing"] > 0
    refused = server.client.post(BATCHES, json={"requests": requests})
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "api_error")
    assert server.client.post("/v1/messages", json=GOOD).status_code == 200  # booked once there is room
    limit_files(server, resource.RLIM_INFINITY)
    lines = results_of(server, batch_id)
    assert len({line["custom_id"] for line in lines}) == len(lines) == NUM_REQUESTS
    assert {line["result"]["type"] for line in lines} == {"succeeded"}
    assert server.end(signal.SIGTERM) == 0
    storage = Storage(url)
    assert booked_outcomes(storage, batch_id) == {"succeeded": NUM_REQUESTS}
    with storage.database.read() as connection:
        chats = select(func.count()).where(ledger.c.tier == "standard")
        assert connection.execute(chats).scalar() == 1
    storage.close()
