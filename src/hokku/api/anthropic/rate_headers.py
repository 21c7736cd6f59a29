"""How full the caller's buckets are, as headers (wire.md sections 1.3 and 10)."""

from __future__ import annotations

from datetime import datetime

from hokku.protocol.records import Level, RateLevels

RATE_HEADERS = tuple(
    f"anthropic-ratelimit-{name}-{field}"
    for name in ("requests", "tokens", "input-tokens", "output-tokens")
    for field in ("limit", "remaining", "reset")
)


def rate_headers(levels: RateLevels | None) -> dict[str, str]:
    """The `anthropic-ratelimit-*` headers; none for what has no limit."""
    if levels is None:
        return {}
    tokens = [level for level in (levels.input_tokens, levels.output_tokens) if level is not None]
    shown = {
        "requests": levels.requests,
        "tokens": min(tokens, key=lambda level: level.remaining, default=None),
        "input-tokens": levels.input_tokens,
        "output-tokens": levels.output_tokens,
    }
    return {
        f"anthropic-ratelimit-{name}-{field}": value
        for name, level in shown.items()
        if level is not None
        for field, value in _fields(level, name != "requests").items()
    }


def _fields(level: Level, is_tokens: bool) -> dict[str, str]:
    return {
        "limit": str(level.limit),
        "remaining": str(shown_remaining(level) if is_tokens else level.remaining),
        "reset": _shown(level.full_at),
    }


def shown_remaining(level: Level) -> int:
    """Down to whole thousands where the limit has that many, so that what is shown is there."""
    return level.remaining // 1_000 * 1_000 if level.limit >= 10_000 else level.remaining


def _shown(moment: datetime) -> str:
    """Whole seconds, never too soon."""
    whole = moment.replace(microsecond=0)
    return (whole if whole == moment else whole.fromtimestamp(whole.timestamp() + 1, moment.tzinfo)).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
