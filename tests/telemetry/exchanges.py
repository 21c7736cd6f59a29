"""Records of exchanges as the front door makes them."""

from __future__ import annotations

from hokku.protocol.events import BlockStart, ReplyEnd, ReplyEvent, ReplyStart, TextBlock, TextDelta, Usage
from hokku.protocol.exchange import Asked, Exchange, ReplyWatch
from hokku.protocol.messages import SamplingParameters

USAGE = Usage(input_tokens=3, output_tokens=5, cache_read_tokens=100, cache_write_5m_tokens=20)
EVENTS: list[ReplyEvent] = [
    ReplyStart("msg_1", "haiku", USAGE),
    BlockStart(0, TextBlock()),
    TextDelta(0, "a secret"),
    ReplyEnd("end_turn", None, USAGE),
]


def an_exchange(*, error_type: str | None = None, ends: bool = True) -> Exchange:
    """A streamed reply that began at 1, said its first token at 1.5 and ended at 3.5."""
    watch = ReplyWatch(Asked("haiku-latest", 100, SamplingParameters(temperature=0.5), "user-1"), True)
    watch.note(EVENTS[:2])
    if ends:
        watch.note(EVENTS[2:])
    watch.model_id, watch.usage, watch.first_token_at = "haiku", USAGE, 1.5
    exchange = Exchange("req_1", "POST", "/v1/messages", status=200, error_type=error_type, reply=watch)
    exchange.end("/v1/messages")
    exchange.began_at, exchange.ended_at = 1.0, 3.5
    return exchange
