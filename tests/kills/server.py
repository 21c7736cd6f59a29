"""A server with batches over a fake engine, in a process that may be killed.

Usage: python -m tests.kills.server DATABASE_URL FOLDER; it prints its address once it listens.
"""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.service.batch_runner import RunnerConfig
from hokku.service.booking import BookedReplies
from hokku.service.ledger import Ledger
from hokku.service.messages import MessagesService
from tests.batches import batch_house
from tests.fakes import FakeEngine
from tests.live import live_server

RUNNER = RunnerConfig(num_in_flight=8, lease_secs=1.0, poll_secs=0.05, pause_secs=0.05)


def serve(url: str, folder: Path) -> None:
    """Until SIGTERM, or worse."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    engine = FakeEngine(step_secs=0.002)
    with batch_house(engine, folder, url, RUNNER) as house:
        ledger = Ledger(house.storage)
        catalogue = house.services.catalogue
        booked = BookedReplies(MessagesService(catalogue), ledger, catalogue.manifest)
        with live_server(create_app(replace(house.services, messages=booked), ApiConfig())) as address:
            house.runner.start()
            print(address, flush=True)
            stopped.wait()
        ledger.close()
    engine.close()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
