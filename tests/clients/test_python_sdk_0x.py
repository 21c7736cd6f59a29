"""The Python SDK of 2024 against a live server. Skipped where it is not installed in its own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import KEY
from tests.clients.conftest import CALLED, answers_what_is_shown
from tests.fakes import ALIAS, MODEL_ID, FakeEngine

FOLDER = Path(__file__).with_name("python_0x")
PYTHON = FOLDER / ".venv" / "bin" / "python"

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        not PYTHON.exists(), reason="the 0.x Python SDK is not installed (tools/setup_clients.sh does it)"
    ),
]


def test_code_of_2024_works_unchanged(
    base_url: str, live_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_engine, "script", answers_what_is_shown)
    command = [str(PYTHON), str(FOLDER / "drive.py"), base_url, KEY, ALIAS]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    seen: dict[str, Any] = json.loads(finished.stdout)
    assert seen["version"].startswith("0.")
    assert seen["whole"]["model"] == MODEL_ID
    assert seen["whole"]["content"][0]["text"] == seen["streamed_text"] == "Hello, world!"
    assert seen["final"]["stop_reason"] == seen["whole"]["stop_reason"] == "end_turn"
    assert seen["final"]["usage"]["output_tokens"] == seen["whole"]["usage"]["output_tokens"]
    assert seen["tokens"] == seen["whole"]["usage"]["input_tokens"]
    for message in seen["called"]:
        assert message["stop_reason"] == "tool_use"
        assert [(block["name"], block["input"]) for block in message["content"]] == CALLED
    assert "model: claude-foo" in seen["not_found"]
