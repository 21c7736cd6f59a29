"""The Admin API's reports on usage and cost (wire.md sections 11.2 and 11.3)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from starlette.datastructures import QueryParams

from hokku.api.anthropic.fields import one_of, refuse
from hokku.protocol.records import (
    BUCKET_SECS,
    DEFAULT_WORKSPACE_ID,
    TOKEN_KINDS,
    BucketWidth,
    Dimension,
    TokenKind,
    UsageQuery,
    UsageSum,
)
from hokku.service.reports import hosted_cost

# Buckets of one page: those that come unasked, and the most.
_PAGE_SIZES: Mapping[BucketWidth, tuple[int, int]] = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
_DIMENSIONS: Mapping[str, Dimension] = {
    "api_key_id": "key_id",
    "workspace_id": "workspace_id",
    "model": "model",
    "service_tier": "tier",
}
_DIMENSIONS_OF: Mapping[str, tuple[Dimension, ...]] = {
    **{name: (dimension,) for name, dimension in _DIMENSIONS.items()},
    "description": ("model", "tier"),
}
# Dimensions that have one value here.
_CONSTANTS = {"context_window": "0-200k", "inference_geo": "not_available"}
_ABSENT = ("account_id", "service_account_id")  # what nobody here has
_FILTERS: Mapping[str, Dimension] = {
    "api_key_ids[]": "key_id",
    "workspace_ids[]": "workspace_id",
    "models[]": "model",
    "service_tiers[]": "tier",
}
_CONSTANT_FILTERS = {"context_window[]": "0-200k", "inference_geos[]": "not_available"}
_TOKEN_TYPES: Mapping[TokenKind, str] = {
    "input": "uncached_input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write_5m": "cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h": "cache_creation.ephemeral_1h_input_tokens",
}
_MOST_FILTER_VALUES = 1_000
_MICRO_CENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """One page of a report. `is_empty`: a filter names a value that nothing here has."""

    query: UsageQuery
    group_by: tuple[str, ...]  # as the client wrote it
    next_page: str | None
    is_empty: bool


def read_usage_query(params: QueryParams, now: datetime) -> ReportQuery:
    """The query of the usage report. Raises `InvalidRequest`."""
    known = (*_FILTERS, *_CONSTANT_FILTERS)
    _refuse_unknown(params, known)
    dimensions = (*_DIMENSIONS, *_CONSTANTS, *_ABSENT)
    return _read(params, now, ("1m", "1h", "1d"), dimensions)


def read_cost_query(params: QueryParams, now: datetime) -> ReportQuery:
    """The query of the cost report. Raises `InvalidRequest`."""
    _refuse_unknown(params, ())
    return _read(params, now, ("1d",), ("workspace_id", "description"))


def usage_report(asked: ReportQuery, sums: Sequence[UsageSum]) -> dict[str, Any]:
    """The body of the usage report."""
    return _page(asked, sums, lambda each: [_usage_item(asked, total) for total in each])


def cost_report(asked: ReportQuery, sums: Sequence[UsageSum]) -> dict[str, Any]:
    """The body of the cost report. `hosted_amount` beside each amount is ours: what the hosted service would have
    asked."""
    return _page(asked, sums, lambda each: list(_cost_items(asked, each)))


def _refuse_unknown(params: QueryParams, filters: Sequence[str]) -> None:
    known = ("starting_at", "ending_at", "bucket_width", "limit", "page", "group_by[]", *filters)
    for name in params:
        if name not in known:
            refuse(name, "Extra inputs are not permitted")


def _read(
    params: QueryParams, now: datetime, widths: Sequence[BucketWidth], dimensions: Sequence[str]
) -> ReportQuery:
    width = _width(params, widths)
    span = timedelta(seconds=BUCKET_SECS[width])
    if "starting_at" not in params:
        refuse("starting_at", "Field required")
    first = _floor(_moment(params["starting_at"], "starting_at"), span)
    end = _ceiling(_moment(params["ending_at"], "ending_at") if "ending_at" in params else now, span)
    if end <= first:
        refuse("ending_at", "must be after starting_at")
    start = _page_start(params["page"], first, end) if "page" in params else first
    stop = min(end, start + _limit(params, width) * span)
    group_by = tuple(dict.fromkeys(params.getlist("group_by[]")))
    for name in group_by:
        if name not in dimensions:
            refuse("group_by[]", one_of(dimensions))
    grouped = dict.fromkeys(inner for name in group_by for inner in _DIMENSIONS_OF.get(name, ()))
    query = UsageQuery(start, stop, width, tuple(grouped), _only(params))
    is_empty = any(
        name in params and value not in params.getlist(name) for name, value in _CONSTANT_FILTERS.items()
    )
    return ReportQuery(query, group_by, _token(stop) if stop < end else None, is_empty)


def _width(params: QueryParams, widths: Sequence[BucketWidth]) -> BucketWidth:
    text = params.get("bucket_width", "1d")
    if text not in widths:
        refuse("bucket_width", one_of(widths))
    return cast(BucketWidth, text)


def _limit(params: QueryParams, width: BucketWidth) -> int:
    usual, most = _PAGE_SIZES[width]
    text = params.get("limit", str(usual))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most):
        refuse("limit", f"Input should be a whole number from 1 to {most}")
    return int(text)


def _moment(text: str, place: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        refuse(place, "Input should be a date and time of RFC 3339")
    if moment.tzinfo is None:
        refuse(place, "Input should have a time zone")
    if not 1971 <= moment.year <= 9000:  # room for a time zone and for pages on either side
        refuse(place, "Input should be a date of this age")
    return moment.astimezone(UTC)


def _floor(moment: datetime, span: timedelta) -> datetime:
    beginning = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - beginning) % span


def _ceiling(moment: datetime, span: timedelta) -> datetime:
    floor = _floor(moment, span)
    return floor if floor == moment else floor + span


def _token(start: datetime) -> str:
    return "page_" + urlsafe_b64encode(start.isoformat().encode()).decode().rstrip("=")


def _page_start(token: str, first: datetime, end: datetime) -> datetime:
    try:
        encoded = token.removeprefix("page_")
        start = datetime.fromisoformat(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
        is_inside = first < start < end
    except (ValueError, TypeError):
        is_inside = False
    if not is_inside:
        refuse("page", "Input should be a `next_page` of this report")
    return start


def _only(params: QueryParams) -> dict[Dimension, tuple[str | None, ...]]:
    only: dict[Dimension, tuple[str | None, ...]] = {}
    for name, dimension in _FILTERS.items():
        values = params.getlist(name)
        if len(values) > _MOST_FILTER_VALUES:
            refuse(name, f"List should have at most {_MOST_FILTER_VALUES} items")
        if values:
            only[dimension] = tuple(values)
    return only


def _page(asked: ReportQuery, sums: Sequence[UsageSum], items: Any) -> dict[str, Any]:
    by_start: defaultdict[datetime, list[UsageSum]] = defaultdict(list)
    for total in [] if asked.is_empty else sums:
        if any(total.tokens.values()):  # what was refused, canceled or had expired has used nothing to report
            by_start[total.starting_at].append(total)
    data = [
        {"starting_at": _shown(start), "ending_at": _shown(end), "results": items(by_start[start])}
        for start, end in _buckets(asked.query)
    ]
    return {"data": data, "has_more": asked.next_page is not None, "next_page": asked.next_page}


def _buckets(query: UsageQuery) -> Iterator[tuple[datetime, datetime]]:
    span = timedelta(seconds=BUCKET_SECS[query.width])
    start = query.starting_at
    while start < query.ending_at:
        yield start, start + span
        start += span


def _usage_item(asked: ReportQuery, total: UsageSum) -> dict[str, Any]:
    tokens = total.tokens
    values = {name: total.group.get(dimension) for name, dimension in _DIMENSIONS.items()}
    constants = {name: value if name in asked.group_by else None for name, value in _CONSTANTS.items()}
    return {
        "uncached_input_tokens": tokens["input"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens["cache_write_5m"],
            "ephemeral_1h_input_tokens": tokens["cache_write_1h"],
        },
        "cache_read_input_tokens": tokens["cache_read"],
        "output_tokens": tokens["output"],
        "server_tool_use": {"web_search_requests": 0},
        **values,
        "workspace_id": _shown_workspace(values["workspace_id"]),
        **constants,
        **dict.fromkeys(_ABSENT),
    }


def _cost_items(asked: ReportQuery, sums: Sequence[UsageSum]) -> Iterator[dict[str, Any]]:
    """One item a group; with `description`, one for each kind of token in it."""
    totals: defaultdict[tuple[str | None, ...], list[int]] = defaultdict(lambda: [0, 0])
    for total in sums:
        hosted = hosted_cost(total)
        for kind in TOKEN_KINDS:
            if not total.tokens[kind]:
                continue
            workspace = total.group.get("workspace_id")
            described = (total.group.get("model"), total.group["tier"], _TOKEN_TYPES[kind])
            group = (workspace, *(described if "description" in asked.group_by else (None, None, None)))
            totals[group][0] += total.micro_cents[kind]
            totals[group][1] += hosted[kind]
    for (workspace, model, tier, token_type), (own, hosted_own) in sorted(totals.items(), key=repr):
        yield {
            "currency": "USD",
            "amount": _cents(own),
            "hosted_amount": _cents(hosted_own),
            "workspace_id": _shown_workspace(workspace),
            "description": f"{model} usage: {token_type}, {tier}" if model else None,
            "cost_type": "tokens" if model else None,
            "context_window": "0-200k" if model else None,
            "model": model,
            "service_tier": tier,
            "token_type": token_type,
        }


def _cents(micro_cents: int) -> str:
    """An exact decimal, without the zeros that say nothing but two."""
    exact = Decimal(micro_cents) / _MICRO_CENTS
    return f"{exact:.2f}" if exact == exact.quantize(Decimal("0.01")) else f"{exact.normalize():f}"


def _shown_workspace(workspace_id: str | None) -> str | None:
    return None if workspace_id == DEFAULT_WORKSPACE_ID else workspace_id


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
