"""The snippets of docs/clients.md run as they stand, but for the address and the key."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import KEY
from tests.clients.conftest import FieldServer, field_server
from tests.clients.installed import (
    CLAUDE_CODE,
    HERE,
    NODE,
    PYTHON,
    claude_code_environment,
    output_of,
    skip_without,
)
from tests.fakes import ALIAS

PAGE = (HERE.parents[1] / "docs" / "clients.md").read_text("utf-8")
SNIPPETS: dict[str, str] = {
    heading: snippet
    for section in PAGE.split("\n## ")[1:]
    for heading in [section.partition("\n")[0]]
    for snippet in re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
}
# The folder whose environment a snippet runs in, and how.
MODULE = [NODE, "--input-type=module", "-e"]
WAYS = {
    "TypeScript SDK": ("typescript", MODULE),
    "LangChain": ("langchain", [PYTHON, "-c"]),
    "Vercel AI SDK": ("ai_sdk", MODULE),
    "Pydantic AI": ("pydantic_ai", [PYTHON, "-c"]),
}

pytestmark = pytest.mark.clients


@pytest.fixture
def server() -> Iterator[FieldServer]:
    with field_server() as server:
        yield server


def snippet_for(heading: str, server: FieldServer) -> str:
    snippet = SNIPPETS[heading].replace("http://127.0.0.1:8080", server.url)
    return snippet.replace("the key that was printed", KEY)


def test_every_snippet_is_run() -> None:
    assert SNIPPETS.keys() == {"Python SDK", *WAYS, "Claude Code"}


def test_the_python_snippet_runs_as_it_stands(server: FieldServer) -> None:
    command = [sys.executable, "-W", "ignore", "-c", snippet_for("Python SDK", server)]
    assert output_of(command, HERE) == "Hello, world!\n"


@pytest.mark.parametrize("heading", WAYS)
def test_a_snippet_runs_as_it_stands(heading: str, server: FieldServer) -> None:
    folder, command = WAYS[heading]
    skip_without(folder)
    assert output_of([*command, snippet_for(heading, server)], HERE / folder) == "Hello, world!\n"


def test_claude_code_runs_as_it_stands(server: FieldServer, tmp_path: Path) -> None:
    skip_without("claude_code")
    claude = tmp_path / "claude"
    claude.write_text(f'#!/bin/sh\nexec "{NODE}" "{CLAUDE_CODE}" "$@"\n', "utf-8")
    claude.chmod(0o755)
    told = claude_code_environment(tmp_path, "", "", ALIAS) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", "-c", snippet_for("Claude Code", server)]
    assert output_of(command, tmp_path, told) == "Hello, world!\n"
