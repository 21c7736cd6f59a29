"""One generation, awaited and summed up: for scripts and benchmarks that need no stream."""

from __future__ import annotations

from dataclasses import dataclass
from queue import SimpleQueue

from hokku.protocol.engine import (
    Engine,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Started,
    Tokens,
)


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished generation."""

    token_ids: tuple[int, ...]
    reason: FinishReason
    cached_tokens: int


def collect(engine: Engine, request: GenerationRequest) -> Generation:
    """Submit a request and wait for its end. Raises what `submit` raises, and the error of a `Failed`."""
    events: SimpleQueue[EngineEvent] = SimpleQueue()
    handle = engine.submit(request, events.put)
    token_ids: list[int] = []
    cached_tokens = 0
    try:
        while True:
            match events.get():
                case Started(cached_tokens=cached_tokens):
                    pass
                case Tokens(ids=ids):
                    token_ids.extend(ids)
                case Finished(reason=reason):
                    return Generation(tuple(token_ids), reason, cached_tokens)
                case Failed(error=error):
                    raise error
    finally:
        handle.cancel()  # for a wait that was interrupted; no effect after the end
