"""`hokku chat --server` against a live server over the fake engine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.cli import run
from tests.api.conftest import KEY, services_of
from tests.fakes import FakeEngine
from tests.live import live_server


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture
def url(fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HOKKU_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("HOKKU_API_KEY", raising=False)
    (tmp_path / "api-key").write_text(f"{KEY}\n", "utf-8")
    with live_server(create_app(services_of(fake), ApiConfig())) as url:
        yield url


def test_one_answer_with_the_key_of_the_first_start(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "--server", url, "Hello"]) == 0
    assert capsys.readouterr().out == "Hello, world!\n"


def test_the_question_may_come_from_a_pipe(
    url: str, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert run(["chat", "--server", url, "--max-tokens", "5", "-"]) == 0
    assert capsys.readouterr().out == "Hello\n"
    assert b"from a pipe" in bytes(fake.requests[0].prompt)


def test_a_conversation_remembers(
    url: str, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("first\n\nsecond\n"))
    assert run(["chat", "--server", url, "--system", "Be brief."]) == 0
    assert capsys.readouterr().out == "Hello, world!\n" * 2
    last = bytes(fake.requests[-1].prompt)
    assert all(part in last for part in (b"Be brief.", b"first", b"Hello, world!", b"second"))


def test_a_question_that_does_not_fit_is_dropped_and_the_talk_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 5000 + "\nshort\n"))
    assert run(["chat", "--server", url]) == 0
    said = capsys.readouterr()
    assert "prompt is too long" in said.err
    assert said.out == "Hello, world!\n"


def test_a_wrong_key_shows_a_way_out(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "--server", url, "--key", "wrong", "Hello"]) == 1
    assert "authentication_error" in (said := capsys.readouterr().err)
    assert "HOKKU_API_KEY" in said


def test_something_else_that_listens_there(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert run(["chat", "--server", f"{url}/elsewhere", "Hello"]) == 1
    assert "not_found_error" in capsys.readouterr().err
