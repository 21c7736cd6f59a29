"""The results as tables: for a terminal, and as Markdown for docs/benchmarks.md and the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results import CaseResult, Check, Results
from benchmarks.workloads import HOKKU, Metric, all_cases

_ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- comparison:begin -->\n", "<!-- comparison:end -->\n"
HEADLINES = (
    *("W1", "W2", "W2-plain", "W3-16", "W3-32", "W4", "W5-prefill", "W5-1", "W5-1-plain", "W5-16"),
    *("W6", "W7", "W8-4k", "W9", "W10", "W10-batch", "W11", "W1@avx2", "W2@avx2", "W3-16@avx2", "W3-32@avx2"),
)
PICTURE_OF_THE_PAGE = "![Speed relative to the best peer](images/benchmarks.png)"
_NOTHING = "–"


def number(value: float, metric: Metric) -> str:
    """A figure with as many digits as a noisy machine deserves."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {metric.value}"


def times(ratio: float | None) -> str:
    """A ratio."""
    return _NOTHING if ratio is None else f"{ratio:.2f}×"


def verdict(check: Check) -> str:
    """A target and whether it was met."""
    sign = "≤" if check.at_most else "≥"
    unit = check.unit if check.unit in "×%" else f" {check.unit}"
    return f"{sign} {check.target:g}{unit} {'met' if check.is_met else 'missed'}"


TARGET_COLUMNS = ("", "What", "Hokku", "Best peer", "Hokku / best", "Of the hardware", "Targets")


def target_row(results: Results, result: CaseResult) -> tuple[str, ...]:
    """One row of the table of targets."""
    case, best = result.case, result.best_peer
    mine = _NOTHING if result.hokku is None else number(result.hokku, case.metric)
    share = results.hardware_share(result)
    growth = results.growth(result)
    of_hardware = _NOTHING if share is None else f"{share[1]:.0%} {share[0]}"
    return (
        case.key,
        case.title,
        mine,
        _NOTHING if best is None else f"{number(result.medians[best], case.metric)} ({best})",
        times(result.ratio),
        of_hardware if growth is None else f"{growth:.2f}× linear",
        "; ".join(map(verdict, results.checks(result))) or _NOTHING,
    )


def memory_row(results: Results) -> tuple[str, ...] | None:
    """Resident memory in the form of the table of targets."""
    check = results.memory_check()
    if check is None:
        return None
    return (
        "",
        "resident memory, 32 streams",
        f"{check.reached:,.0f} MB",
        _NOTHING,
        _NOTHING,
        _NOTHING,
        verdict(check),
    )


def target_rows(results: Results, keys: Iterable[str] | None = None) -> list[tuple[str, ...]]:
    """All rows, or those of some cases; memory last."""
    wanted = None if keys is None else set(keys)
    rows = [
        target_row(results, result) for result in results.cases if wanted is None or result.case.key in wanted
    ]
    memory = memory_row(results)
    return rows if memory is None else [*rows, memory]


def peer_columns(results: Results) -> list[str]:
    """Everybody who was measured somewhere, Hokku first."""
    names = dict.fromkeys(name for result in results.cases for name in result.medians)
    return sorted(names, key=lambda name: (name != HOKKU, name.lower()))


def peer_rows(results: Results) -> list[tuple[str, ...]]:
    """Each contestant's median for each case, and how many times as good Hokku is."""
    names = peer_columns(results)
    return [
        (f"{result.case.key}, {result.case.metric.value}", *(peer_cell(result, name) for name in names))
        for result in results.cases
    ]


def peer_cell(result: CaseResult, name: str) -> str:
    """A median, Hokku's ratio to it, and the number of rounds where it was fewer than others had."""
    if name in result.errors:
        return "failed"
    if name not in result.medians:
        return _NOTHING
    value = number(result.medians[name], result.case.metric).split()[0]
    ratio = result.ratio_to(name)
    told = value if name == HOKKU or ratio is None else f"{value} ({times(ratio)})"
    rounds, most = len(result.values[name]), max(map(len, result.values.values()))
    return told if rounds == most else f"{told}, {rounds} round{'s' if rounds > 1 else ''}"


def failures(results: Results) -> list[str]:
    """One line for each peer that took no part and each case that failed, without this machine's paths."""
    lines = [f"{family} took no part: {reason}" for family, reason in results.absent.items()]
    for result in results.cases:
        lines += [f"{name} failed in {result.case.key}: {error}" for name, error in result.errors.items()]
    return [line.replace(f"{_ROOT}/", "./").replace(f"{Path.home()}/", "~/") for line in lines]


def headline(results: Results) -> str:
    """Machine, commit, date and versions, and which rows were left out."""
    machine: dict[str, Any] = results.machine
    peers = {
        family: version
        for family, version in results.versions.items()
        if version != results.versions.get(HOKKU)
    }
    versions = ", ".join(f"{family} {version}" for family, version in peers.items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}; "
        f"Hokku's path {machine['isa']}; measured ceilings {results.ceilings.read_gb_per_sec:.1f} GB/s and "
        f"{results.ceilings.int8_tops:.2f} int8 TOPS. Commit {machine['commit']}, {machine['date']}. "
        f"Peers: {versions or 'none'}.{_of_other_runs(results)}{_left_out(results)}"
    )


def _of_other_runs(results: Results) -> str:
    keys: dict[str, list[str]] = {}
    for result in results.cases:
        if result.run:
            keys.setdefault(result.run, []).append(result.case.key)
    return "".join(f" Measured later: {', '.join(named)}, {run}." for run, named in keys.items())


def _left_out(results: Results) -> str:
    measured = {result.case.key for result in results.cases}
    missing = [case.key for case in all_cases() if case.key not in measured]
    return f" Not measured in this run: {', '.join(missing)}." if missing else ""


def print_tables(results: Results, console: Console) -> None:
    """Both tables and what failed."""
    console.print(headline(results))
    console.print(_rich(TARGET_COLUMNS, target_rows(results)))
    console.print(_rich(("", *peer_columns(results)), peer_rows(results)))
    for line in failures(results):
        console.print(line, style="red", markup=False)


def _rich(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    return table


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def markdown(results: Results) -> str:
    """Everything, for docs/benchmarks.md."""
    parts = [
        f"{headline(results)}\n",
        f"{PICTURE_OF_THE_PAGE}\n",
        markdown_table(TARGET_COLUMNS, target_rows(results)),
        "Everybody's medians, and in brackets how many times as good Hokku is:\n",
        markdown_table(("", *peer_columns(results)), peer_rows(results)),
    ]
    if failed := failures(results):
        parts.append("".join(f"- {line}\n" for line in failed))
    return "\n".join(parts)


def summary(results: Results) -> str:
    """The headline workloads alone, for the README."""
    return f"{headline(results)}\n\n{markdown_table(TARGET_COLUMNS, target_rows(results, HEADLINES))}"


def put_between_markers(page: Path, text: str) -> bool:
    """Write `text` between a page's markers; false where the page has none."""
    content = page.read_text("utf-8")
    if BEGIN not in content or END not in content:
        return False
    before, rest = content.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    page.write_text(before + BEGIN + text + END + after, "utf-8")
    return True
