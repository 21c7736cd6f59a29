"""The official TypeScript SDK against a live server. Skipped where Node or the package is not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import KEY
from tests.clients.conftest import (
    CALLED,
    CITED_DOCUMENT,
    CITED_REPLY,
    CITED_TEXT,
    answers_what_is_shown,
)
from tests.fakes import ALIAS, MODEL_ID, FakeEngine

FOLDER = Path(__file__).with_name("typescript")
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules").exists(),
        reason="the TypeScript SDK is not installed (tools/setup_clients.sh does it)",
    ),
]


@pytest.fixture(scope="module")
def seen(base_url: str, live_engine: FakeEngine) -> Iterator[dict[str, Any]]:
    """What the SDK read, in one run of Node."""
    script, live_engine.script = live_engine.script, answers_what_is_shown
    command = [str(NODE), str(FOLDER / "drive.mjs"), base_url, KEY, ALIAS, json.dumps(CITED_DOCUMENT)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    yield json.loads(finished.stdout)
    live_engine.script = script


def test_whole_and_streamed_replies_agree(seen: dict[str, Any]) -> None:
    assert seen["whole"]["content"] == [{"type": "text", "text": "Hello, world!"}]
    assert seen["final"]["content"][0]["text"] == seen["streamedText"] == "Hello, world!"
    for name in ("model", "role", "type", "stop_reason", "stop_sequence", "usage"):
        assert seen["final"][name] == seen["whole"][name]
    assert seen["whole"]["model"] == MODEL_ID
    assert seen["requestID"].startswith("req_")


def test_events_arrive_in_order(seen: dict[str, Any]) -> None:
    types = seen["rawTypes"]
    assert types[:2] == ["message_start", "content_block_start"]
    assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_calls_arrive_whole_and_streamed(seen: dict[str, Any]) -> None:
    for message in (seen["called"], seen["streamedCall"]):
        assert message["stop_reason"] == "tool_use"
        assert [(block["name"], block["input"]) for block in message["content"]] == CALLED
    assert "".join(json.dumps(call, ensure_ascii=False) for _, call in CALLED) == seen["inputJson"]


def test_citations_arrive_whole_and_streamed(seen: dict[str, Any]) -> None:
    for message in (seen["cited"], seen["streamedCited"]):
        plain, cited = message["content"]
        assert plain["text"] + cited["text"] == CITED_REPLY
        assert not plain.get("citations")
        (citation,) = cited["citations"]
        place = slice(citation["start_char_index"], citation["end_char_index"])
        assert citation["cited_text"] == CITED_TEXT[place]
        assert seen["citedEvents"] == [citation]


def test_abort_is_the_clients_own_error(seen: dict[str, Any]) -> None:
    assert seen["abort"]["name"] == "APIUserAbortError"


def test_tokens_and_models(seen: dict[str, Any]) -> None:
    assert seen["tokens"] == {"input_tokens": seen["whole"]["usage"]["input_tokens"]}
    assert [model["id"] for model in seen["models"]] == [MODEL_ID]
    assert seen["retrieved"]["id"] == MODEL_ID


@pytest.mark.parametrize(
    ("call", "name", "status", "error_type"),
    [
        ("badRequest", "BadRequestError", 400, "invalid_request_error"),
        ("notFound", "NotFoundError", 404, "not_found_error"),
        ("badKey", "AuthenticationError", 401, "authentication_error"),
    ],
)
def test_errors_have_their_classes(
    seen: dict[str, Any], call: str, name: str, status: int, error_type: str
) -> None:
    error = seen[call]
    assert (error["name"], error["status"], error["type"]) == (name, status, error_type)
    assert error["requestID"].startswith("req_")
