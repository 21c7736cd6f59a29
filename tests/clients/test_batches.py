"""Message Batches through the official SDKs, of today and of the model's own days."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from tests.api.conftest import KEY
from tests.batches import a_request, batch_house
from tests.clients.test_python_sdk_0x import FOLDER, PYTHON
from tests.fakes import ALIAS, FakeEngine
from tests.live import live_server

pytestmark = pytest.mark.clients


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    engine = FakeEngine()
    with batch_house(engine, tmp_path) as house, live_server(create_app(house.services, ApiConfig())) as url:
        house.runner.start()
        yield url
    engine.close()


@pytest.fixture
def sdk(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as sdk:
        yield sdk


def until_ended(batches: Any, batch_id: str) -> Any:
    for _ in range(600):
        batch = batches.retrieve(batch_id)
        if batch.processing_status == "ended":
            return batch
        time.sleep(0.05)
    raise AssertionError("the batch never ended")


@pytest.mark.parametrize("is_beta", [False, True])
def test_a_batch_s_life(sdk: anthropic.Anthropic, is_beta: bool) -> None:
    batches: Any = sdk.beta.messages.batches if is_beta else sdk.messages.batches
    requests: Any = [a_request("good"), a_request("bad", max_tokens=0)]
    made = batches.create(requests=requests)
    assert (made.type, made.request_counts.processing, made.results_url) == ("message_batch", 2, None)
    batch = until_ended(batches, made.id)
    assert (batch.request_counts.succeeded, batch.request_counts.errored) == (1, 1)
    results = {line.custom_id: line.result for line in batches.results(made.id)}
    assert results["good"].type == "succeeded"
    assert results["good"].message.content[0].text == "Hello, world!"
    assert results["good"].message.usage.service_tier == "batch"
    assert results["bad"].error.error.type == "invalid_request_error"
    assert batches.cancel(made.id).processing_status == "ended"
    assert batches.delete(made.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError, match=f"Message Batch {made.id} not found"):
        batches.retrieve(made.id)


def test_pages_are_turned(sdk: anthropic.Anthropic) -> None:
    requests: Any = [a_request("only")]
    made = [sdk.messages.batches.create(requests=requests).id for _ in range(5)]
    assert [batch.id for batch in sdk.messages.batches.list(limit=2)] == made[::-1]


def test_results_before_the_end(sdk: anthropic.Anthropic) -> None:
    requests: Any = [a_request(f"r{number}") for number in range(2000)]
    made = sdk.messages.batches.create(requests=requests)
    with pytest.raises(anthropic.AnthropicError, match="results_url"):
        sdk.messages.batches.results(made.id)
    with pytest.raises(anthropic.BadRequestError, match="Consider canceling the batch instead"):
        sdk.messages.batches.delete(made.id)
    assert sdk.messages.batches.cancel(made.id).processing_status == "canceling"
    counts = until_ended(sdk.messages.batches, made.id).request_counts
    assert counts.canceled + counts.succeeded == 2000


@pytest.mark.skipif(not PYTHON.exists(), reason="the 0.x Python SDK is not installed")
def test_code_of_2024_works_unchanged(url: str) -> None:
    command = [str(PYTHON), str(FOLDER / "drive_batches.py"), url, KEY, ALIAS]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout)
    assert seen["batch"]["request_counts"]["succeeded"] == len(seen["results"]) == 3
    assert {line["result"]["message"]["usage"]["output_tokens"] for line in seen["results"]} == {14}
    assert seen["listed"] == [seen["made"]]
