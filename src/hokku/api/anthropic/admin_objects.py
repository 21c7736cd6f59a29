"""Workspaces and keys as administrators' clients see them, and what these may say of them (wire.md section 11.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from hokku.api.anthropic.fields import a_string, one_of, refuse, refuse_extras, required
from hokku.api.anthropic.models import read_page_query, timestamp
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, ApiKey, KeyStatus, Workspace

T = TypeVar("T", Workspace, ApiKey)

KEY_STATUSES: tuple[KeyStatus, ...] = ("active", "inactive", "archived")
_SHOWN_STATUSES = (*KEY_STATUSES, "expired")
_MOST_WORKSPACE_NAME = 40
_MOST_KEY_NAME = 255
_COLOR = "#6B7280"  # clients want one; workspaces have none here


def listed(objects: Sequence[T], query: QueryParams, shown: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """One page of a list, newest first. Raises `InvalidRequest`, also for a place that is not in the list."""
    asked = read_page_query(query)
    ids = [each.id for each in objects]
    if asked.before_id is not None:
        candidates = objects[: _place(ids, asked.before_id, "before_id")]
        page = candidates[-asked.limit :]
    else:
        start = 0 if asked.after_id is None else _place(ids, asked.after_id, "after_id") + 1
        candidates = objects[start:]
        page = candidates[: asked.limit]
    return {
        "data": [shown(each) for each in page],
        "has_more": len(candidates) > len(page),
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def workspace_object(workspace: Workspace) -> dict[str, Any]:
    """A workspace."""
    return {
        "id": workspace.id,
        "type": "workspace",
        "name": workspace.name,
        "display_color": _COLOR,
        "created_at": timestamp(workspace.created_at),
        "archived_at": timestamp(workspace.archived_at),
    }


def key_object(key: ApiKey, version: str) -> dict[str, Any]:
    """A key, in the words of an API version. Nobody here has an account, so no key has an owner or a maker."""
    common = {
        "id": key.id,
        "type": "api_key",
        "name": key.name,
        "partial_key_hint": key.hint,
        "status": shown_status(key),
        "created_at": timestamp(key.created_at),
        "created_by": None,
        "expires_at": timestamp(key.expires_at),
        "principal": None,
    }
    if version == "2026-10-21":
        return {**common, "scope": {"type": "workspace", "workspace_id": key.workspace_id}}
    return {**common, "workspace_id": None if key.workspace_id == DEFAULT_WORKSPACE_ID else key.workspace_id}


def shown_status(key: ApiKey) -> str:
    """The status, or that an open key's time is over."""
    has_ended = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    return "expired" if has_ended and key.status == "active" else key.status


def filtered_keys(keys: Sequence[ApiKey], query: QueryParams) -> list[ApiKey]:
    """Those that a list is asked for. Raises `InvalidRequest`."""
    status, workspace_id = query.get("status"), query.get("workspace_id")
    if status is not None and status not in _SHOWN_STATUSES:
        refuse("status", one_of(_SHOWN_STATUSES))
    if "created_by_user_id" in query:
        return []  # nobody here has an account
    return [
        key
        for key in keys
        if status in (None, shown_status(key)) and workspace_id in (None, key.workspace_id)
    ]


def read_workspace_name(body: dict[str, Any]) -> str:
    """The body that makes or renames a workspace. Raises `InvalidRequest`."""
    refuse_extras(body, ("name",), "")
    return _name(required(body, "name", ""), _MOST_WORKSPACE_NAME)


def read_key_change(body: dict[str, Any]) -> tuple[str | None, KeyStatus | None]:
    """The name and the status that a key is to have; None leaves it. Raises `InvalidRequest`."""
    refuse_extras(body, ("name", "status"), "")
    name = _name(body["name"], _MOST_KEY_NAME) if body.get("name") is not None else None
    given = body.get("status")
    status = next((each for each in KEY_STATUSES if each == given), None)
    if given is not None and status is None:
        refuse("status", one_of(KEY_STATUSES))
    return name, status


def _name(value: object, most: int) -> str:
    name = a_string(value, "name")
    if not name.strip():
        refuse("name", "String should have at least 1 character")
    if len(name) > most:
        refuse("name", f"String should have at most {most} characters")
    return name


def _place(ids: Sequence[str], given: str, field: str) -> int:
    if given not in ids:
        refuse(field, f"{given} is not in this list")
    return ids.index(given)
