"""Batches from the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import hokku.app
from hokku.cli import run
from hokku.protocol.batches import Batch, BatchCounts, BatchedRequest
from hokku.service.batch_answers import BatchAnswers
from hokku.storage.storage import Storage
from tests.batches import a_request, batch_house
from tests.fakes import FakeEngine

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOKKU_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.delenv("HOKKU_DATABASE", raising=False)
    return tmp_path


@pytest.fixture
def storage(home: Path) -> Iterator[Storage]:
    storage = Storage(f"sqlite:///{home}/data/hokku.db")
    yield storage
    storage.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def test_looking_at_batches(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    day = timedelta(days=1)
    batch = Batch("msgbatch_1", "wrkspc_1", None, "{}", NOW, NOW + day, BatchCounts(2), "in")
    storage.batches.add(batch, [BatchedRequest("a", 0, 1), BatchedRequest("b", 1, 1)])
    assert "in_progress, waits for a server" in said(capsys, "batches", "list")
    storage.batches.claim("msgbatch_1", "runner", 1, now=NOW, until=NOW + day)
    shown = said(capsys, "batches", "show", "msgbatch_1")
    assert "in_progress\n" in shown
    assert "processing 2" in shown
    assert said(capsys, "batches", "cancel", "msgbatch_1") == "msgbatch_1 is being canceled\n"
    assert "canceling" in said(capsys, "batches", "list")
    storage.batches.give_back("runner", storage.batches.claim("msgbatch_1", "x", 1, now=NOW, until=NOW))
    storage.batches.settle("msgbatch_1", NOW + 2 * day)
    storage.batches.end("msgbatch_1", "out", NOW)
    assert said(capsys, "batches", "watch", "msgbatch_1") == "msgbatch_1 has ended: 2 canceled\n"
    assert said(capsys, "batches", "cancel", "msgbatch_1") == "msgbatch_1 is ended already\n"
    assert run(["batches", "show", "msgbatch_x"]) == 1
    assert capsys.readouterr().err == "hokku: Message Batch msgbatch_x not found.\n"


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """What `hokku batches run` gets instead of the default model."""
    engine = FakeEngine()
    with batch_house(engine, home / "unused") as house:

        @contextmanager
        def opened(*_: Any) -> Iterator[BatchAnswers]:
            yield house.answers

        monkeypatch.setattr(hokku.app, "open_batch_answers", opened)
        yield engine
    engine.close()


def write(file: Path, *requests: dict[str, Any]) -> str:
    file.write_text("".join(json.dumps(each) + "\n" for each in requests))
    return str(file)


def test_a_file_of_requests(engine: FakeEngine, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [a_request(f"r{number}", "Hi" + "Grüße" * number) for number in range(20)]
    asked = write(home / "in.jsonl", *requests, a_request("bad", max_tokens=0))
    out = home / "out.jsonl"
    assert (
        said(capsys, "batches", "run", asked, "-o", str(out)) == f"{out} has 21 results, 1 of them errors\n"
    )
    results = {line["custom_id"]: line["result"] for line in map(json.loads, out.read_text().splitlines())}
    assert len(results) == 21
    assert results["r3"]["message"]["usage"]["service_tier"] == "batch"
    # The input is as many bytes as its prompt has: each request was given its own body.
    assert results["r3"]["message"]["usage"]["input_tokens"] == len("user: Hi\n") + 3 * len("Grüße".encode())
    assert results["bad"]["error"]["error"]["message"] == "max_tokens: must be greater than or equal to 1"


def test_a_run_is_taken_up_again(engine: FakeEngine, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = write(home / "in.jsonl", *(a_request(f"r{number}") for number in range(10)))
    out = home / "out.jsonl"
    said(capsys, "batches", "run", asked, "-o", str(out))
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # as a stop in the middle of a line leaves it
    engine.requests.clear()
    said(capsys, "batches", "run", asked, "-o", str(out))
    assert len(engine.requests) == 6
    again = out.read_bytes().splitlines(keepends=True)
    assert again[:4] == lines[:4]
    assert sorted(json.loads(line)["custom_id"] for line in again) == [f"r{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"custom_id": "a", "params": {}}\n{"custom_id": "a b", "params": {}}\n', "requests.1.custom_id"),
        (b'{"custom_id": "a", "params": {}}\n\n{"custom_id"\n', "line 4 column 1"),
        (b"", "List should have at least 1 item"),
    ],
)
def test_a_file_that_is_none(
    engine: FakeEngine, home: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    (home / "in.jsonl").write_bytes(content)
    assert run(["batches", "run", str(home / "in.jsonl"), "-o", str(home / "out.jsonl")]) == 2
    assert message in capsys.readouterr().err
    assert not (home / "out.jsonl").exists()


def test_what_is_no_file_of_results_is_left_alone(
    engine: FakeEngine, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = write(home / "in.jsonl", a_request("a"))
    (home / "out.jsonl").write_text("precious\nwords")
    assert run(["batches", "run", asked, "-o", str(home / "out.jsonl")]) == 2
    assert "holds something else than results (name another file)" in capsys.readouterr().err
    assert (home / "out.jsonl").read_text() == "precious\nwords"


def test_a_file_that_is_not_there(engine: FakeEngine, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batches", "run", str(home / "none.jsonl"), "-o", str(home / "out.jsonl")]) == 2
    assert "none.jsonl: cannot be opened" in capsys.readouterr().err
