"""Where tools/setup_clients.sh puts the clients, and how their programs are run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node") or "node"
PYTHON = ".venv/bin/python"  # of the folder that a client is installed in
CLAUDE_CODE = HERE / "claude_code/node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs"
_MARKS = (".venv/.done", "node_modules/.package-lock.json")  # one of them is there once a client is installed


def skip_without(folder: str) -> None:
    """Skip this test where the client of a folder could not be installed."""
    if not any((HERE / folder / mark).exists() for mark in _MARKS):
        pytest.skip(f"tests/clients/{folder} is not installed (tools/setup_clients.sh does it)")


def output_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, *, fails: bool = False
) -> str:
    """What a program prints, run in `folder`; it has to end well, unless it `fails`."""
    finished = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,  # a machine that is busy with other things imports some clients for a minute
        check=False,
    )
    assert fails or finished.returncode == 0, finished.stderr
    return finished.stdout


def claude_code_environment(home: Path, url: str, key: str, model: str) -> dict[str, str]:
    """What Claude Code is told, and nothing else: a home of its own, and nobody but the server in reach."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        "ANTHROPIC_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # where nobody listens
        "NO_PROXY": "127.0.0.1",
    }
