"""A part of a run beside the rows that are shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.report import markdown
from benchmarks.results import Results
from benchmarks.shown import read_shown, renewed

from tests.benchmarks.house import WORK, measured, results_of


def left_behind(folder: Path, results: Results) -> Path:
    path = folder / "shown.json"
    path.write_text(json.dumps(results.as_json()), "utf-8")
    return path


def test_a_part_renews_its_rows_and_names_its_commit(tmp_path: Path) -> None:
    whole = results_of(measured("W1", Hokku=[600.0]), measured("W9", {"llama.cpp": "it broke"}, Hokku=[1.0]))
    whole.resident_mb["Hokku"] = 300.0
    shown = read_shown(left_behind(tmp_path, whole))
    assert shown is not None
    shown.work = {"default": WORK}
    assert markdown(shown) == markdown(whole)

    part = results_of(measured("W9", Hokku=[20.0], llama_cpp=[2.0]), measured("W6", Hokku=[0.5]))
    part.machine = part.machine | {"commit": "01234567", "date": "2026-03-04"}
    page = markdown(renewed(shown, part))
    assert "Commit abcdef12, 2026-01-02." in page
    assert "Measured later: W6, W9, commit 01234567, 2026-03-04." in page
    assert "| W9 |" in page
    assert "10.00×" in page
    assert "600 prompt tokens/s" in page
    assert "it broke" not in page
    again = read_shown(left_behind(tmp_path, renewed(shown, part)))
    assert again is not None
    assert {result.case.key: result.run for result in again.cases}["W9"] == "commit 01234567, 2026-03-04"


def test_rows_of_another_machine_are_not_mixed_in() -> None:
    elsewhere = results_of(measured("W1", Hokku=[600.0]))
    elsewhere.machine = elsewhere.machine | {"cores": 64}
    part = results_of(measured("W9", Hokku=[20.0]))
    assert renewed(elsewhere, part) is part


def test_what_cannot_be_read_and_rows_that_are_no_more_are_left_out(tmp_path: Path) -> None:
    assert read_shown(tmp_path / "nothing") is None
    broken = tmp_path / "broken.json"
    broken.write_text("{}", "utf-8")
    assert read_shown(broken) is None
    old = results_of(measured("W1", Hokku=[600.0]))
    old.cases[0] = replace(old.cases[0], case=replace(old.cases[0].case, key="W0"))
    shown = read_shown(left_behind(tmp_path, old))
    assert shown is not None
    assert shown.cases == []
