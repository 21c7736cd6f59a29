"""The rows that the page shows: a part of a run renews its own, and all others stay as an earlier run measured them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.results import CaseResult, Ceilings, Results
from benchmarks.workloads import all_cases

_OF_ONE_RUN = ("commit", "date")


def read_shown(path: Path) -> Results | None:
    """What a run left for the next one, without what tokens cost; None where there is nothing that can be read."""
    cases = {case.key: case for case in all_cases()}
    try:
        left = json.loads(path.read_text("utf-8"))
        rows = [
            CaseResult(cases[row["key"]], row["rounds"], row["errors"], row.get("run", ""))
            for row in left["cases"]
            if row["key"] in cases
        ]
        ceilings = Ceilings(left["int8_tops"], left["read_gb_per_sec"])
        return Results(
            left["machine"], left["versions"], left["absent"], ceilings, {}, rows, left["resident_mb"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def renewed(shown: Results, part: Results) -> Results:
    """What is shown with the rows of `part` in place of its own; `part` alone where it ran on another machine."""
    if _where(shown) != _where(part):
        return part
    run = f"commit {part.machine['commit']}, {part.machine['date']}"
    rows = {result.case.key: result for result in shown.cases}
    rows |= {result.case.key: replace(result, run=run) for result in part.cases}
    return replace(
        shown,
        versions=shown.versions | part.versions,
        work=shown.work | part.work,
        cases=[rows[case.key] for case in all_cases() if case.key in rows],
        resident_mb=shown.resident_mb | part.resident_mb,
    )


def _where(results: Results) -> dict[str, Any]:
    return {name: value for name, value in results.machine.items() if name not in _OF_ONE_RUN}
