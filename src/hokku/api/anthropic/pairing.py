"""Calls and their results: every call is answered in the very next turn, and nothing else is (wire.md 13.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from hokku.api.anthropic.fields import refuse
from hokku.protocol.messages import Part, ToolResultPart, ToolUsePart


@dataclass(frozen=True, slots=True)
class Placed:
    """A part, and where it stood in the client's arrays."""

    part: Part
    message: int
    position: int

    @property
    def path(self) -> str:
        """Its place in the client's terms."""
        return f"messages.{self.message}.content.{self.position}"


def check_pairs(runs: list[list[Placed]]) -> None:
    """Look at the parts of each turn, which alternate. Raises `InvalidRequest`."""
    _refuse_repeated_ids(runs)
    calls: dict[str, Placed] = {}  # of the turn before
    for run in runs:
        _check_results(run, calls)
        calls = {placed.part.id: placed for placed in run if isinstance(placed.part, ToolUsePart)}
    _refuse_unanswered(calls, set())


def _refuse_repeated_ids(runs: list[list[Placed]]) -> None:
    seen: set[str] = set()
    for run in runs:
        for placed in run:
            if isinstance(placed.part, ToolUsePart):
                if placed.part.id in seen:
                    refuse(placed.path, "`tool_use` ids must be unique")
                seen.add(placed.part.id)


def _check_results(run: list[Placed], calls: dict[str, Placed]) -> None:
    leading = list(takewhile(lambda placed: isinstance(placed.part, ToolResultPart), run))
    answered: set[str] = set()
    for placed in run:
        if isinstance(placed.part, ToolResultPart):
            _check_result(placed, placed.part.tool_use_id, calls, answered)
    _refuse_unanswered(calls, {p.part.tool_use_id for p in leading if isinstance(p.part, ToolResultPart)})


def _check_result(placed: Placed, call_id: str, calls: dict[str, Placed], answered: set[str]) -> None:
    if call_id not in calls:
        refuse(
            placed.path,
            f"unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each `tool_result` block must have a "
            "corresponding `tool_use` block in the previous message.",
        )
    if call_id in answered:
        refuse(
            placed.path,
            "each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
            + call_id,
        )
    answered.add(call_id)


def _refuse_unanswered(calls: dict[str, Placed], answered: set[str]) -> None:
    missing = [call_id for call_id in calls if call_id not in answered]
    if missing:
        refuse(
            f"messages.{calls[missing[0]].message}",
            f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(missing)}. Each "
            "`tool_use` block must have a corresponding `tool_result` block in the next message.",
        )
