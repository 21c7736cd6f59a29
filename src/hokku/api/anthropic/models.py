"""The Models API: manifests as the wire's model objects, page by page (wire.md section 7).

Clients of the OpenAI form ask at the same path. What they are answered has the keys of both forms (section 15).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import QueryParams

from hokku.api.anthropic.fields import one_of, refuse
from hokku.api.config import Compatibility
from hokku.registry.manifest import CAPABILITIES, Manifest
from hokku.service.models import Catalogue

DEFAULT_PAGE = 20
MAX_PAGE = 1000
LIFECYCLES = ("active", "deprecated", "retired")
OWNER = "hokku"  # OpenAI's form asks who owns a model


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which models a client asks to see."""

    limit: int = DEFAULT_PAGE
    before_id: str | None = None
    after_id: str | None = None
    lifecycles: tuple[str, ...] = ("active", "deprecated")


def read_page_query(query: QueryParams, default_limit: int = DEFAULT_PAGE) -> PageQuery:
    """The query string, checked. Keys that are not known are ignored, like the hosted service does."""
    if "before_id" in query and "after_id" in query:
        refuse("before_id", "cannot be combined with after_id")
    lifecycles = tuple(query.getlist("lifecycle[]"))
    for lifecycle in lifecycles:
        if lifecycle not in LIFECYCLES:
            refuse("lifecycle", one_of(LIFECYCLES))
    return PageQuery(
        read_limit(query.get("limit", str(default_limit))),
        query.get("before_id"),
        query.get("after_id"),
        lifecycles or PageQuery().lifecycles,
    )


def model_page(catalogue: Catalogue, query: PageQuery, compatibility: Compatibility) -> dict[str, Any]:
    """One page, newest first. An id that is not in the list stands for a model now gone: the page starts
    anew.
    """
    shown = [each for each in catalogue.manifests if each.lifecycle.stage in query.lifecycles]
    ids = [manifest.id for manifest in shown]
    if query.before_id in ids:
        candidates = shown[: ids.index(query.before_id)]
        page = candidates[-query.limit :]
    else:
        start = ids.index(query.after_id) + 1 if query.after_id in ids else 0
        candidates = shown[start:]
        page = candidates[: query.limit]
    return {
        "data": [model_object(each, catalogue.context_window_tokens(each), compatibility) for each in page],
        "has_more": len(candidates) > len(page),
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def model_object(
    manifest: Manifest, context_window_tokens: int, compatibility: Compatibility
) -> dict[str, Any]:
    """What a client may know about a model."""
    return {
        "type": "model",
        "id": manifest.id,
        "display_name": manifest.display_name,
        "created_at": timestamp(manifest.created_at),
        "max_input_tokens": context_window_tokens,
        "max_tokens": manifest.max_output_tokens,
        "capabilities": capabilities_object(manifest, compatibility),
        "lifecycle": manifest.lifecycle.stage,
        "deprecated_at": timestamp(manifest.lifecycle.deprecated_at),
        "retires_at": timestamp(manifest.lifecycle.retires_at),
        "line": manifest.line,
    }


def capabilities_object(manifest: Manifest, compatibility: Compatibility) -> dict[str, Any]:
    """The manifest's capabilities, what this server gives every model, and a plain no to what no model of this
    generation has."""
    no = {"supported": False}
    return {
        **{name: {"supported": name in manifest.capabilities} for name in CAPABILITIES},
        # PDFs are read by their text, and citations are found after the fact.
        **{name: {"supported": True} for name in ("pdf_input", "citations")},
        "structured_outputs": {"supported": compatibility is not Compatibility.HOSTED},
        "code_execution": no,
        "context_management": {
            **no,
            "clear_tool_uses_20250919": no,
            "clear_thinking_20251015": no,
            "compact_20260112": no,
        },
        "effort": {**no, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), no)},
        "thinking": {
            **no,
            "types": {
                "adaptive": no,
                "enabled": no,
                "disabled": {"supported": True},
                "between_tools": no,
            },
        },
        "server_tools": {**no, "web_search": no, "code_execution": no},
    }


def page_for_both(page: dict[str, Any]) -> dict[str, Any]:
    """A page with the keys of OpenAI's form besides its own."""
    return {"object": "list", **page, "data": [model_for_both(model) for model in page["data"]]}


def model_for_both(model: dict[str, Any]) -> dict[str, Any]:
    """A model object with the keys of OpenAI's form besides its own."""
    created = int(datetime.fromisoformat(model["created_at"]).timestamp())
    return {**model, "object": "model", "created": created, "owned_by": OWNER}


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with a Z."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_limit(text: str) -> int:
    """How many objects of a list a page may have. Raises `InvalidRequest`."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        refuse("limit", "Input should be a valid integer, unable to parse string as an integer")
    limit = int(text)
    if limit < 1:
        refuse("limit", "Input should be greater than or equal to 1")
    if limit > MAX_PAGE:
        refuse("limit", f"Input should be less than or equal to {MAX_PAGE}")
    return limit
