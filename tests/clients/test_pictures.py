"""Pictures from all clients that are libraries, for the default model with eyes of random weights in `hokku serve`.

What such eyes see is noise, but of the same pixels the same noise: whichever way a picture came, the reply is the same.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.api.conftest import KEY
from tests.clients.conftest import Served
from tests.clients.installed import HERE, output_of
from tests.clients.test_common import CLIENTS, Client
from tests.documents.pictures import picture
from tests.fakes import ALIAS
from tests.house.towers import ROWS

pytestmark = [pytest.mark.clients, pytest.mark.model]

PICTURE = picture(width=48, height=32)
# Prompt tokens of a picture behind another: its rows, and a paragraph's break.
ONE_MORE = ROWS + 1
LEAST_WAYS = {"inline", "streamed", "two"}
IMAGE: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PICTURE).decode()},
}
QUESTION: Any = {"type": "text", "text": "What is it?"}


class _Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line of log for each."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it overrides
        pass


@dataclass(frozen=True)
class Ways:
    """One picture as a file, at a URL, and uploaded."""

    path: Path
    url: str
    file_id: str


@pytest.fixture(scope="module")
def sdk(seeing_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=seeing_url, api_key=KEY, max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def ways(sdk: anthropic.Anthropic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    path = tmp_path_factory.mktemp("site") / "picture.png"
    path.write_bytes(PICTURE)
    uploaded = sdk.files.upload(file=path)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(path.parent))) as site:
        threading.Thread(target=site.serve_forever).start()
        yield Ways(path, f"http://127.0.0.1:{site.server_port}/{path.name}", uploaded.id)
        site.shutdown()


@pytest.fixture(scope="module", params=CLIENTS)
def seen(request: pytest.FixtureRequest, seeing: Served, ways: Ways) -> dict[str, Any]:
    """What one client read."""
    client: Client = CLIENTS[request.param]
    shown = ("pictures", str(ways.path), ways.url, ways.file_id)
    seen: dict[str, Any] = client.drive(seeing.url, seeing.key, seeing.pair, client.model, *shown)
    assert ("by_url" in seen) == client.names_urls
    return seen


def test_a_picture_is_the_same_by_every_way(seen: dict[str, Any]) -> None:
    assert seen.keys() >= LEAST_WAYS
    inline = seen["inline"]
    assert inline["text"]
    assert seen.get("by_url", inline) == seen["streamed"] == seen.get("by_id", inline) == inline


def test_a_picture_takes_its_rows_wherever_it_stands(seen: dict[str, Any]) -> None:
    assert seen["two"]["input"] - seen["inline"]["input"] == ONE_MORE
    if "results" in seen:
        one, two = seen["results"]
        assert two["input"] - one["input"] == ONE_MORE


def test_a_count_is_what_a_reply_is_charged(seen: dict[str, Any]) -> None:
    assert seen.get("counted", seen["inline"]["input"]) == seen["inline"]["input"]


def test_models_that_see_say_so(sdk: anthropic.Anthropic) -> None:
    capabilities: Any = sdk.models.retrieve(ALIAS).capabilities
    assert capabilities.image_input.supported
    assert capabilities.pdf_input.supported


def test_a_batch_is_answered_as_a_message_is(sdk: anthropic.Anthropic) -> None:
    params: Any = {
        "model": ALIAS,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": [IMAGE, QUESTION]}],
    }
    batch = sdk.messages.batches.create(requests=[{"custom_id": "only", "params": params}])
    ends_at = time.monotonic() + 60
    while sdk.messages.batches.retrieve(batch.id).processing_status != "ended":
        assert time.monotonic() < ends_at, "the batch never ended"
        time.sleep(0.1)
    [line] = sdk.messages.batches.results(batch.id)
    assert line.result.type == "succeeded"
    message = sdk.messages.create(**params)
    assert line.result.message.content == message.content
    assert line.result.message.usage.input_tokens == message.usage.input_tokens


def test_the_example_prints_what_the_model_says(seeing_url: str) -> None:
    told = os.environ | {"ANTHROPIC_BASE_URL": seeing_url, "ANTHROPIC_API_KEY": KEY}
    example = HERE.parents[1] / "examples/look_at_a_picture.py"
    printed = output_of([sys.executable, "-W", "ignore", str(example)], HERE, told)
    asked, answer = printed.split("\n", 1)
    assert re.fullmatch(r"What colour is the circle\? \(\d+ tokens with the picture\)", asked)
    assert answer.strip()
