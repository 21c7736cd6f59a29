"""Where another service is, and how to ask it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hokku.protocol.messages import MessagesRequest


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One model of another service."""

    url: str  # without a slash at the end
    model: str  # as the service calls it
    key: str | None = field(default=None, repr=False)
    connect_secs: float = 5.0
    read_secs: float = 60.0  # the longest silence, before the first event and between two
    output_limit_key: str = "max_tokens"  # of an OpenAI-compatible body
    max_event_bytes: int = 4 << 20
    max_reply_bytes: int = 64 << 20  # a token takes some 200 bytes in either form
    max_connections: int = 256


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as the service takes it, but for what every service is sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, object]


def changed_sampling(request: MessagesRequest) -> dict[str, float]:
    """The sampling parameters that a client has set to something else than the APIs' own default, which both forms
    share. Some models take none of them."""
    asked = request.sampling
    if asked is None:
        return {}
    given = {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k}
    return {name: value for name, value in given.items() if value != _NEUTRAL[name]}


_NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
