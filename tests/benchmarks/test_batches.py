"""What W10 and W11 ask, and how their figures are made; a real server with an engine that answers at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from benchmarks.batch_memory import growth
from benchmarks.beside_a_batch import Measured, arrivals, batch_prompts, chat, first_token_secs, p95
from benchmarks.engines.hokku_batches import BatchClient, BatchSession, batch_body
from benchmarks.engines.http_load import HttpSession
from benchmarks.engines.job import EngineProblem, Job, Prompt

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.service.keys import KeyRing
from tests.batches import batch_house
from tests.fakes import FakeEngine, says
from tests.live import live_server


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where a server listens that is open, and whose model says one of two labels."""
    engine = FakeEngine(says('"yes"'), context_window_tokens=10_000)
    with batch_house(engine, tmp_path) as house:
        house.services.keys.__init__((), house.storage, open_access=True)  # type: ignore[misc]
        assert isinstance(house.services.keys, KeyRing)
        with live_server(create_app(house.services, ApiConfig())) as address:
            house.runner.start()
            yield int(address.rpartition(":")[2])
    engine.close()


def session(port: int) -> BatchSession:
    return BatchSession(cast(HttpSession, SimpleNamespace(port=port, pid=1, close=lambda: None)))


def test_a_job_is_one_batch_and_every_answer_is_looked_at(port: int) -> None:
    prompts = [Prompt([1], "Say yes or no.", f"Number {number}?", ("yes", "no")) for number in range(30)]
    timing = session(port).run(Job(prompts, 8))
    assert timing.secs > 0
    assert timing.output_tokens == 30 * len('"yes" ')


def test_an_answer_that_is_no_label_is_no_measurement(port: int) -> None:
    with pytest.raises(EngineProblem, match="none of the labels"):
        session(port).run(Job([Prompt([1], "Say maybe.", "?", ("maybe",))], 8))


def test_a_request_that_fails_is_no_measurement(port: int) -> None:
    with pytest.raises(EngineProblem, match="failed"):
        session(port).run(Job([Prompt([1], "", "?")], 100_000))


def test_a_refused_batch_is_a_problem(port: int) -> None:
    with pytest.raises(EngineProblem, match="it answered"):
        BatchClient(port).create(b'{"requests":[]}')


def test_a_chat_waits_for_its_first_text(port: int) -> None:
    assert 0 < asyncio.run(first_token_secs(port, chat(1, "a test"))) < 60


def test_chats_come_at_the_same_times_in_every_span_and_never_ask_the_same() -> None:
    times = list(arrivals(40))
    assert times == list(arrivals(40)) == sorted(times)
    assert 60 <= len(times) <= 100
    assert len({chat(number, span) for number in range(50) for span in ("one", "two")}) == 100


def test_the_batch_is_one_of_different_requests_with_one_beginning() -> None:
    prompts = batch_prompts(100)
    assert len({prompt.system for prompt in prompts}) == 1
    requests = json.loads(batch_body(prompts, 5))["requests"]
    assert [request["custom_id"] for request in requests] == [str(number) for number in range(100)]
    assert len({json.dumps(request["params"]) for request in requests}) == 100


def test_what_is_left_to_the_batch_is_what_chats_do_not_take() -> None:
    measured = Measured(100, 130, 80, 20, 12, 0.25, 500)
    assert measured.ratio == pytest.approx(1.3)
    assert measured.left_per_sec == 15
    assert measured.share == pytest.approx(0.8)


def test_the_95th_percentile() -> None:
    assert p95(range(1, 101)) == 95
    assert p95([3.0]) == 3
    assert p95(range(1, 11)) == 10


def test_growth_is_from_the_end_of_the_warm_up() -> None:
    assert growth([100, 300, 400, 420, 410]) == pytest.approx(0.05)
