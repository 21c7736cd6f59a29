"""The rows of a run that has not ended: an interrupted `make bench` goes on where it stopped.

A row is taken up again only by a run of the same kind: same clean commit, machine, engines, rounds and budget. Whatever
else the file holds is left out without a word, and the whole run removes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import CaseResult
from benchmarks.workloads import Case

_CHANGED = "+"  # what `machine.describe` puts after the commit of a checkout with changes


@dataclass
class Unfinished:
    """The rows that a run of this kind has measured so far, each also on disk as soon as it is there."""

    path: Path
    kind: dict[str, Any]
    results: dict[str, CaseResult] = field(default_factory=dict)
    resident_mb: dict[str, float] = field(default_factory=dict)

    @classmethod
    def taken_up(cls, path: Path, kind: dict[str, Any], cases: Sequence[Case]) -> Unfinished:
        """What an earlier run of this kind left behind; nothing where there is none or the commit says little."""
        run = cls(path, kind)
        if kind["commit"].endswith(_CHANGED) or not kind["commit"]:
            return run
        try:
            left = json.loads(path.read_text("utf-8"))
            if left["kind"] != kind:
                return run
            run.resident_mb = left["resident_mb"]
            by_key = {case.key: case for case in cases}
            run.results = {
                key: CaseResult(by_key[key], row["values"], row["errors"])
                for key, row in left["rows"].items()
                if key in by_key
            }
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, kind)
        return run

    def add(self, result: CaseResult, resident_mb: dict[str, float]) -> None:
        """One more row is there."""
        self.results[result.case.key] = result
        self.resident_mb = dict(resident_mb)
        rows = {key: {"values": row.values, "errors": row.errors} for key, row in self.results.items()}
        incoming = self.path.with_suffix(".incoming")
        incoming.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"kind": self.kind, "resident_mb": self.resident_mb, "rows": rows})
        incoming.write_text(text, "utf-8")
        incoming.replace(self.path)

    def done(self) -> None:
        """The run has come to its end."""
        self.path.unlink(missing_ok=True)
