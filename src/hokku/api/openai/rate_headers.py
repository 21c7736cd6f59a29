"""How full the caller's buckets are, as headers of this form (wire.md section 15)."""

from __future__ import annotations

from datetime import UTC, datetime
from math import ceil

from hokku.api.anthropic.rate_headers import shown_remaining
from hokku.protocol.records import Level, RateLevels

RATE_HEADERS = tuple(
    f"x-ratelimit-{field}-{name}"
    for field in ("limit", "remaining", "reset")
    for name in ("requests", "tokens")
)


def rate_headers(levels: RateLevels | None) -> dict[str, str]:
    """The `x-ratelimit-*` headers, of requests and of the tightest bucket of tokens; none for what has no limit."""
    if levels is None:
        return {}
    tokens = [level for level in (levels.input_tokens, levels.output_tokens) if level is not None]
    shown = {
        "requests": levels.requests,
        "tokens": min(tokens, key=lambda level: level.remaining, default=None),
    }
    return {
        f"x-ratelimit-{field}-{name}": value
        for name, level in shown.items()
        if level is not None
        for field, value in _fields(level, is_tokens=name == "tokens").items()
    }


def _fields(level: Level, *, is_tokens: bool) -> dict[str, str]:
    return {
        "limit": str(level.limit),
        "remaining": str(shown_remaining(level) if is_tokens else level.remaining),
        "reset": duration((level.full_at - datetime.now(UTC)).total_seconds()),
    }


def duration(secs: float) -> str:
    """How long something takes, as this form says it: `1s`, `6m0s`; whole seconds, never too few."""
    minutes, rest = divmod(max(0, ceil(secs)), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
