"""What reading a body brings to light besides its values: cache marks, and what cannot be served (wire.md 2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from hokku.api.anthropic.fields import an_object, joined, one_of, refuse, refuse_extras, required
from hokku.grammar.schema import MAX_VALUES
from hokku.protocol.errors import InvalidRequest

# What the hosted service knows but this release does not serve, as a sentence about a model id. Refusals of
# this kind come after every check of the body's form.
Refusal = Callable[[str], str]
CacheTtl = Literal["5m", "1h"]

MAX_CACHE_MARKS = 4
LIFETIME_SECS: dict[CacheTtl, int] = {"5m": 300, "1h": 3600}


@dataclass(frozen=True, slots=True)
class CacheMark:
    """A `cache_control` in the body."""

    path: str
    ttl: CacheTtl


@dataclass(slots=True)
class Findings:
    """What reading the blocks brought to light besides their text."""

    serves_structured_output: bool = True
    serves_system_turns: bool = True
    takes_assistant_documents: bool = True
    takes_named_files: bool = True
    users_may_cite: bool = True
    schema_values_left: int = MAX_VALUES  # that the schemas still to come may have together
    marks: list[CacheMark] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def not_served(self, path: str, what: str) -> None:
        """Note that this release does not serve something yet."""
        self.refusals.append(lambda _model: f"{path}: this release of Hokku does not serve {what} yet")


def note_mark(block: dict[str, Any], path: str, findings: Findings, mark_path: str) -> int | None:
    """The lifetime that a block's mark asks for."""
    ttl = cache_ttl(block.get("cache_control"), joined(path, "cache_control"))
    if ttl is None:
        return None
    findings.marks.append(CacheMark(joined(mark_path, "cache_control"), ttl))
    return LIFETIME_SECS[ttl]


def cache_ttl(value: object, path: str) -> CacheTtl | None:
    """The time to live of a `cache_control` object, None for null."""
    if value is None:
        return None
    mark = an_object(value, path)
    if required(mark, "type", path) != "ephemeral":
        refuse(joined(path, "type"), one_of(["ephemeral"]))
    ttl = mark.get("ttl", "5m")
    if ttl not in ("5m", "1h"):
        refuse(f"{path}.ephemeral.ttl", one_of(["5m", "1h"]))
    refuse_extras(mark, ("type", "ttl"), f"{path}.ephemeral")
    return "1h" if ttl == "1h" else "5m"


def check_marks(marks: list[CacheMark], automatic: CacheTtl | None) -> None:
    """The rules over all marks together, which come in prefix order, and the automatic one after them."""
    num_marks = len(marks) + (automatic is not None)
    if num_marks > MAX_CACHE_MARKS:
        raise InvalidRequest(
            f"A maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided. Found {num_marks}."
        )
    all_marks = [*marks, CacheMark("cache_control", automatic)] if automatic else marks
    for earlier, later in pairwise(all_marks):
        if (earlier.ttl, later.ttl) == ("5m", "1h"):
            refuse(
                f"{later.path}.ttl",
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
                "Note that blocks are processed in the following order: `tools`, `system`, `messages`.",
            )
