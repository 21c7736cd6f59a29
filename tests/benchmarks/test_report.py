"""What the tables say."""

from __future__ import annotations

import io
from pathlib import Path

from benchmarks.report import BEGIN, END, failures, markdown, print_tables, put_between_markers, summary
from benchmarks.results import Results
from benchmarks.workloads import all_cases
from rich.console import Console

from tests.benchmarks.house import measured, results_of


def sample() -> Results:
    results = results_of(
        measured("W1", Hokku=[600.0], llama_cpp=[150.0]),
        measured("W2", {"xllamacpp": "it broke"}, Hokku=[1.0], llama_cpp=[2.0]),
        measured("W6", Hokku=[0.5, 0.6, 0.7], llama_cpp=[1.2]),
        measured("W8-1k", Hokku=[100.0]),
        measured("W8-4k", Hokku=[440.0]),
        measured("W1@portable", Hokku=[10.0]),
    )
    results.resident_mb["Hokku"] = 350.4
    return results


def line_of(table: str, key: str) -> str:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {key} |")]
    return line


def test_a_row_has_the_figure_the_best_peer_the_ratio_and_every_target() -> None:
    line = line_of(markdown(sample()), "W1")
    assert "600 prompt tokens/s" in line
    assert "150 prompt tokens/s (llama cpp)" in line
    assert "4.00×" in line
    assert "≥ 3× met" in line
    assert "% MFU" in line


def test_a_missed_target_stands_as_it_is() -> None:
    line = line_of(markdown(sample()), "W2")
    assert "0.50×" in line
    assert "≥ 2.5× missed" in line


def test_times_growth_and_memory_have_their_own_units() -> None:
    page = markdown(sample())
    assert "0.60 s" in line_of(page, "W6")
    assert "≤ 1 s met" in line_of(page, "W6")
    assert "1.10× linear" in line_of(page, "W8-4k")
    assert "350 MB" in page
    assert "≤ 400 MB met" in page


def test_fewer_rounds_than_others_are_said() -> None:
    assert "1.2 (2.00×), 1 round" in markdown(sample()).replace("1.20", "1.2")


def test_who_failed_is_named_with_the_error() -> None:
    assert failures(sample()) == ["vLLM took no part: no wheel", "xllamacpp failed in W2: it broke"]
    assert "| failed |" in markdown(
        results_of(measured("W2", {"b": "it broke"}, Hokku=[1.0]), measured("W1", b=[1.0]))
    )


def test_what_failed_names_no_path_of_this_machine() -> None:
    home, root = Path.home(), Path(__file__).parents[2]
    (_, line) = failures(results_of(measured("W2", {"b": f"no {home}/model and no {root}/build"})))
    assert line == "b failed in W2: no ~/model and no ./build"


def test_machine_commit_date_and_versions_are_named() -> None:
    page = summary(sample())
    for word in ("A Processor", "2 cores", "avx512", "abcdef12", "2026-01-02", "llama.cpp b1"):
        assert word in page
    assert "in process 0.1.0" not in page
    assert "portable forced" not in page


def test_the_terminal_shows_it_too() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_tables(sample(), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "≥ 2.5× missed" in shown
    assert "it broke" in shown


def test_only_what_lies_between_the_markers_is_renewed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", "utf-8")
    assert put_between_markers(page, "new\n")
    assert page.read_text("utf-8") == f"before\n{BEGIN}new\n{END}after\n"
    page.write_text("no markers\n", "utf-8")
    assert not put_between_markers(page, "new\n")
    assert page.read_text("utf-8") == "no markers\n"


def test_rows_that_were_not_measured_are_named() -> None:
    assert "Not measured in this run: W2-plain, W3-16" in summary(sample())
    whole = results_of(*(measured(case.key, Hokku=[1.0]) for case in all_cases()))
    assert "Not measured" not in summary(whole)
