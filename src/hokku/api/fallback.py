"""Another model in the place of the one that was named: what a client says about it, and what it is told."""

from __future__ import annotations

from starlette.datastructures import Headers

from hokku.protocol.errors import InvalidRequest
from hokku.service.replies import ReplyStream

FALLBACK_HEADER = "hokku-fallback"  # ours: in a request, whether; in a response, why
MODEL_HEADER = "hokku-model"  # ours: who answered instead


def read_may_fall_back(headers: Headers) -> bool:
    """Whether another model may answer; a client says no with `hokku-fallback: none`."""
    said = headers.get(FALLBACK_HEADER)
    if said not in (None, "none"):
        raise InvalidRequest('may only be "none"', place=FALLBACK_HEADER)
    return said is None


def fallback_headers(stream: ReplyStream) -> dict[str, str]:
    """Who has answered in whose place, and why; none where it is the model that was named. Known with the first
    event."""
    reason = stream.fallback_reason
    return {} if reason is None else {MODEL_HEADER: stream.model_id, FALLBACK_HEADER: reason}
