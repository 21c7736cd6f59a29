"""The commands in this process: what they print, and the exit code and one line of each failure."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path

import pytest

from hokku import cli
from hokku.cli import run
from hokku.protocol.errors import BadSetting, OperatorError
from tests.registry.conftest import MANIFEST, SHA256, WEIGHTS


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data and cache directories of the test's own, with a tiny model beside the default one."""
    monkeypatch.setenv("HOKKU_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOKKU_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "data" / "models").mkdir(parents=True)
    (tmp_path / "data" / "models" / "tiny.toml").write_text(MANIFEST, "utf-8")
    (tmp_path / "tiny.gguf").write_bytes(WEIGHTS)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code of a failing command and its only line."""
    code = run(list(arguments))
    said = capsys.readouterr()
    assert said.err.startswith("hokku: ")
    assert said.err.count("\n") == 1
    return code, said.err


@pytest.mark.parametrize("command", ["serve", "chat", "bench", "doctor", "models pull", "models alias"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert re.search(rf"Examples?:\s+.*hokku {command}", capsys.readouterr().out, re.DOTALL)


def test_models_list_pull_show(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    assert re.search(r"tiny-1 .* no\s*\n", capsys.readouterr().out)
    assert run(["models", "pull", "tiny-1", "--from", str(homes / "tiny.gguf")]) == 0
    place = capsys.readouterr().out.split(" is at ")[1].strip()
    assert Path(place).read_bytes() == WEIGHTS
    assert run(["models", "pull", "tiny-1", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["models", "show", "tiny-1"]) == 0
    shown = capsys.readouterr().out
    assert SHA256 in shown
    assert place in shown
    assert run(["models", "list"]) == 0
    assert re.search(r"tiny-1 .* yes\s*\n", capsys.readouterr().out)


def test_show_says_plainly_what_the_default_model_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show"]) == 0
    assert "SmolLM2-135M-Instruct, a small model of modest ability" in capsys.readouterr().out


def test_an_alias_moves(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "alias", "claude-3-5-haiku-latest", "tiny-1"]) == 0
    assert "now stands for tiny-1" in capsys.readouterr().out
    assert run(["models", "show", "claude-3-5-haiku-latest"]) == 0
    assert "tiny-1" in capsys.readouterr().out


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "serve", "--model", "nobody", "--port", "0")
    assert code == 3
    assert "hokku models list" in line


def test_wrong_bytes(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = homes / "other.gguf"
    other.write_bytes(b"other")
    code, line = refused(capsys, "models", "pull", "tiny-1", "--from", str(other))
    assert code == 4
    assert hashlib.sha256(b"other").hexdigest() in line
    assert SHA256 in line


def test_a_bad_setting(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "serve", "--port", "http")
    assert code == 2
    assert "--port" in line


def test_a_kernel_path_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["doctor", "--isa", "neon"])
    said = capsys.readouterr().out
    if "neon" not in said.split("kernels")[0]:
        assert code == 2
        assert "amiss: isa: " in said


def test_open_on_all_addresses_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "serve", "--open", "--host", "0.0.0.0")
    assert code == 2
    assert "must ask for a key" in line


def test_a_port_in_use_is_said_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, line = refused(capsys, "serve", "--port", port)
    assert code == 8
    assert f"127.0.0.1:{port}: another program listens there" in line


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "chat", "--server", "http://127.0.0.1:9", "Hello")
    assert code == 9
    assert "hokku serve" in line


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(BadSetting):
        run(["--debug", "serve", "--port", "http"])
    cli._debug = False


def test_every_failure_of_an_operator_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in OperatorError.__subclasses__()]
    assert sorted(codes) == list(range(2, 2 + len(codes)))


def test_a_slip_of_the_pen_is_told_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serv"]) == 2
    assert "Did you mean 'serve'?" in capsys.readouterr().err
