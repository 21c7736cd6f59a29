"""The operator's limits as administrators' clients read them (wire.md section 11.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from starlette.datastructures import QueryParams

from hokku.api.anthropic.fields import one_of, refuse
from hokku.protocol.records import LimitRule

# By group: the wire's name of each limit, and the rule's.
_GROUPS: Mapping[str, Mapping[str, str]] = {
    "model_group": {
        name: name for name in ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
    },
    "batch": {
        "requests_per_minute": "batch_calls_per_minute",
        "enqueued_batch_requests": "queued_batch_requests",
    },
    "token_count": {"requests_per_minute": "count_calls_per_minute"},
    "files": {"requests_per_minute": "file_calls_per_minute"},
}
_KNOWN_GROUPS = (*_GROUPS, "skills", "web_search")  # of the last two nobody has any here

Rules = Mapping[str | None, LimitRule]  # by model; None: each model without a rule of its own


def organization_limits(
    rules: Sequence[LimitRule], query: QueryParams, model_id: str | None
) -> dict[str, Any]:
    """What everybody together may use, of the model that is asked for or of every one. Raises `InvalidRequest`."""
    return _listed(_applying(rules, None, model_id), query, model_id, lambda rule, name: {})


def workspace_limits(
    rules: Sequence[LimitRule], workspace_id: str, query: QueryParams, model_id: str | None
) -> dict[str, Any]:
    """What of that a workspace may use, beside everybody's limit. Raises `InvalidRequest`."""
    everybodys = _applying(rules, None, None)

    def org_limit(rule: LimitRule, name: str) -> dict[str, Any]:
        beside = everybodys.get(rule.model) or everybodys.get(None)
        return {"org_limit": getattr(beside, name, None)}

    return _listed(_applying(rules, workspace_id, model_id), query, model_id, org_limit)


def _applying(rules: Sequence[LimitRule], workspace_id: str | None, model_id: str | None) -> Rules:
    own = {rule.model: rule for rule in rules if rule.workspace_id == workspace_id}
    if model_id is None:
        return own
    counts = model_id if model_id in own else None
    return {model: rule for model, rule in own.items() if model == counts}


def _listed(
    rules: Rules,
    query: QueryParams,
    model_id: str | None,
    beside: Callable[[LimitRule, str], dict[str, Any]],
) -> dict[str, Any]:
    group_type = query.get("group_type")
    if group_type is not None and group_type not in _KNOWN_GROUPS:
        refuse("group_type", one_of(_KNOWN_GROUPS))
    wanted = _GROUPS if model_id is None else ("model_group",)
    groups = [group for group in wanted if group_type in (None, group)]
    data = [each for rule in rules.values() for each in _objects(rule, groups, beside)]
    return {"data": data, "next_page": None}


def _objects(
    rule: LimitRule, groups: Sequence[str], beside: Callable[[LimitRule, str], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """One object for each group of which the rule has a limit."""
    models = None if rule.model is None else [rule.model]
    for group in groups:
        limits = [
            {"type": shown, "value": getattr(rule, name), **beside(rule, name)}
            for shown, name in _GROUPS[group].items()
            if getattr(rule, name) is not None
        ]
        if limits:
            # Told twice: clients of 2023 read `group_type`, those of 2026 `group`.
            name = rule.model or "each model without limits of its own"
            named = {"display_name": name} if group == "model_group" else {}
            yield {
                "type": "rate_limit",
                "id": f"{rule.workspace_id or 'organization'}/{group}/{rule.model or ''}",
                "group_type": group,
                "group": {"type": group, "id": f"{group}/{rule.model or ''}", **named},
                "models": models,
                "limits": limits,
            }
