"""Every command of docs/operations.md, in its order: on SQLite, and on PostgreSQL by URL."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from hokku.cli import run
from hokku.settings import load_settings
from tests.storage.conftest import postgres  # noqa: F401 - a fixture

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("$ ")
]
NEEDS_A_SERVER = ("batches", "chat")  # shown with a server at work, and tested with one elsewhere


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_the_commands_work_in_their_order(
    backend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setenv("HOKKU_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    if backend == "postgresql":
        monkeypatch.setenv("HOKKU_DATABASE", request.getfixturevalue("postgres").fresh_url())
    num_run = 0
    for program, *arguments in COMMANDS:
        if program != "hokku" or arguments[0] in ("serve", *NEEDS_A_SERVER):
            continue
        if arguments[:2] == ["keys", "revoke"]:
            arguments[2] = _a_key(capsys)
        assert run(arguments) == 0, capsys.readouterr().err
        num_run += 1
    assert num_run > 8


@pytest.mark.parametrize("arguments", [words[2:] for words in COMMANDS if words[:2] == ["hokku", "serve"]])
def test_options_of_serve_are_settings(arguments: list[str]) -> None:
    names = [word.removeprefix("--").replace("-", "_") for word in arguments[::2]]
    load_settings(dict(zip(names, arguments[1::2], strict=True)), {})


@pytest.mark.parametrize("arguments", [words for words in COMMANDS if words[0] == "pip"])
def test_extras_are_there(arguments: list[str]) -> None:
    match = re.fullmatch(r"hokku-llm\[(\w+)\]", arguments[-1])
    assert match
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert match[1] in project["optional-dependencies"]


def _a_key(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(["keys", "list"]) == 0
    match = re.search(r"apikey_\w+", capsys.readouterr().out)
    assert match
    return match[0]
