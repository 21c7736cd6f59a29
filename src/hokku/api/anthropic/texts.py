"""Text blocks, wherever they may stand (wire.md section 2.3)."""

from __future__ import annotations

from typing import Any

from hokku.api.anthropic.citations import check_citations
from hokku.api.anthropic.fields import a_string, joined, one_of, refuse, refuse_extras, required
from hokku.api.anthropic.findings import Findings, note_mark
from hokku.protocol.messages import TextPart


def system_block(value: object, path: str, findings: Findings) -> TextPart:
    """One block of the system prompt."""
    if not isinstance(value, dict):
        refuse(path, "Input does not match the expected shape.")
    if required(value, "type", path) != "text":
        refuse(joined(path, "type"), one_of(["text"]))
    return text_block(value, path, findings, mark_path=path)


def users_text_block(block: dict[str, Any], path: str, findings: Findings, *, mark_path: str) -> TextPart:
    """A text block of the user's side, which cites nothing in today's dialect (section 0.1)."""
    part = text_block(block, path, findings, mark_path=mark_path)
    if block.get("citations") and not findings.users_may_cite:
        refuse(joined(path, "citations"), "`citations` can only be in `assistant` messages")
    return part


def text_block(block: dict[str, Any], path: str, findings: Findings, *, mark_path: str) -> TextPart:
    """A text block, possibly empty. `mark_path` is where rules over all marks place its cache mark.

    Citations are checked and left out: the model reads its own words as it wrote them.
    """
    text = a_string(required(block, "text", path), joined(path, "text"))
    check_citations(block.get("citations"), joined(path, "citations"))
    cache_secs = note_mark(block, path, findings, mark_path)
    if cache_secs and not text:
        refuse(path, "cache_control cannot be set for empty text blocks")
    refuse_extras(block, ("type", "text", "citations", "cache_control"), path)
    return TextPart(text, cache_secs)
