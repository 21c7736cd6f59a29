"""An interrupted run goes on where it stopped, if it is the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.results import CaseResult
from benchmarks.unfinished import Unfinished
from benchmarks.workloads import HOKKU, all_cases

KIND = {"commit": "12345678", "rounds": 3}
CASES = all_cases()
ROW = CaseResult(CASES[0], {HOKKU: [1.0, 2.0]}, {"vLLM": "it broke"})


def left_behind(path: Path) -> Path:
    Unfinished.taken_up(path, KIND, CASES).add(ROW, {HOKKU: 300.0})
    return path


def test_the_same_run_takes_up_its_rows(tmp_path: Path) -> None:
    run = Unfinished.taken_up(left_behind(tmp_path / "rows.json"), KIND, CASES)
    assert run.results == {ROW.case.key: ROW}
    assert run.resident_mb == {HOKKU: 300.0}


@pytest.mark.parametrize("kind", [{"rounds": 5}, {"commit": "87654321"}])
def test_another_run_does_not(tmp_path: Path, kind: dict[str, object]) -> None:
    assert not Unfinished.taken_up(left_behind(tmp_path / "rows.json"), KIND | kind, CASES).results


@pytest.mark.parametrize("commit", ["12345678+", ""])
def test_changed_files_are_nobodys_run(tmp_path: Path, commit: str) -> None:
    path = tmp_path / "rows.json"
    kind = KIND | {"commit": commit}
    Unfinished.taken_up(path, kind, CASES).add(ROW, {})
    assert not Unfinished.taken_up(path, kind, CASES).results


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": {}}'])
def test_a_broken_file_is_no_run(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content, "utf-8")
    assert not Unfinished.taken_up(path, KIND, CASES).results


def test_rows_that_are_no_longer_asked_for_are_left_out(tmp_path: Path) -> None:
    assert not Unfinished.taken_up(left_behind(tmp_path / "rows.json"), KIND, CASES[1:]).results


def test_an_ended_run_leaves_nothing(tmp_path: Path) -> None:
    path = left_behind(tmp_path / "rows.json")
    Unfinished.taken_up(path, KIND, CASES).done()
    assert not path.exists()
