"""The examples print what is kept beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.server import RealServer

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.clients, pytest.mark.model]


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.py"))])
def test_an_example_prints_what_is_kept(name: str, real_server: RealServer) -> None:
    told = {"ANTHROPIC_BASE_URL": real_server.url, "ANTHROPIC_API_KEY": real_server.key}
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py")]
    ended = subprocess.run(
        command, env=os.environ | told, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.stdout or ended.stderr) == (EXAMPLES / f"{name}.txt").read_text("utf-8")
