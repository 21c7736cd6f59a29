"""Engines over a packed model, with the knobs that must not change a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

from hokku.engine.config import EngineConfig
from hokku.engine.engine import LocalEngine
from hokku.kernels import NativeProgram, PagePool, ThreadPool
from hokku.models.packing import PackedModel
from hokku.protocol.engine import EngineEvent, Failed, Finished, GenerationRequest, Tokens

WINDOW_TOKENS = 1024


@contextmanager
def open_engine(
    packed: PackedModel,
    *,
    isa: str | None = None,
    threads: int = 2,
    num_pages: int = 1024,
    max_step_tokens: int = 512,
    max_running: int = 64,
    max_speculative_rows: int = 0,
) -> Iterator[LocalEngine]:
    """A running engine; closed when the block ends."""
    config = packed.config
    window = min(config.context_window_tokens, WINDOW_TOKENS)
    limits = EngineConfig(
        context_window_tokens=window,
        vocabulary=config.vocabulary,
        num_pages=num_pages,
        max_step_tokens=max_step_tokens,
        max_running=max_running,
        max_speculative_rows=max_speculative_rows,
    )
    program = NativeProgram(
        max_rows=max_step_tokens,
        max_logit_rows=limits.max_logit_rows,
        pool=PagePool(config.layers, num_pages, config.kv_heads, config.head_dim, packed.kv_format),
        threads=ThreadPool(threads),
        isa=isa,
    )
    packed.record(program, max_positions=window)
    with LocalEngine(program, limits) as engine:
        yield engine


def collect_all(engine: LocalEngine, requests: Sequence[GenerationRequest]) -> list[tuple[int, ...]]:
    """Submit all at once and wait for all; the tokens of each, in the order given."""
    events: SimpleQueue[tuple[int, EngineEvent]] = SimpleQueue()
    ids: list[list[int]] = [[] for _ in requests]
    for number, request in enumerate(requests):
        engine.submit(request, lambda event, number=number: events.put((number, event)))  # type: ignore[misc]
    num_open = len(requests)
    while num_open:
        number, event = events.get(timeout=120)
        match event:
            case Tokens(ids=new):
                ids[number].extend(new)
            case Finished():
                num_open -= 1
            case Failed(error=error):
                raise error
    return [tuple(tokens) for tokens in ids]
