"""What the engine's tests share: an engine on the toy model, and a sink that writes everything down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, time
from typing import TypeVar

from hokku.engine import EngineConfig, LocalEngine
from hokku.engine.shelf import Shelf, ShelfConfig
from hokku.protocol.engine import (
    EngineEvent,
    EngineStats,
    Failed,
    Finished,
    GenerationRequest,
    Started,
    Tokens,
)
from tests.engine.fake_program import VOCABULARY, FakeEncoder, FakeProgram, expected_generation

WINDOW_TOKENS = 160
T = TypeVar("T")


class Recorder:
    """A sink that keeps all events; `done` is set by the last."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.done = threading.Event()

    def __call__(self, event: EngineEvent) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.done.set()

    def wait(self) -> Recorder:
        assert self.done.wait(60)
        return self

    @property
    def token_ids(self) -> list[int]:
        return [token for event in self.events if isinstance(event, Tokens) for token in event.ids]

    @property
    def cached_tokens(self) -> int:
        [started] = [event for event in self.events if isinstance(event, Started)]
        return started.cached_tokens

    @property
    def cache_read_tokens(self) -> int:
        [started] = [event for event in self.events if isinstance(event, Started)]
        return started.cache_read_tokens

    @property
    def last(self) -> Finished | Failed:
        [final] = [event for event in self.events if isinstance(event, Finished | Failed)]
        assert self.events[-1] is final
        return final


class House:
    """An engine and the toy model below it."""

    def __init__(self, engine: LocalEngine, program: FakeProgram, encoder: FakeEncoder) -> None:
        self.engine = engine
        self.program = program
        self.encoder = encoder

    def submit(self, request: GenerationRequest) -> Recorder:
        recorder = Recorder()
        self.engine.submit(request, recorder)
        return recorder

    def generate(self, request: GenerationRequest) -> Recorder:
        return self.submit(request).wait()

    def during_step(self, action: Callable[[], T]) -> T:
        """Do something in the middle of a step, so that all of it reaches the engine before the next one."""
        results: list[T] = []
        self.program.during_step = lambda: results.append(action())
        self.generate(GenerationRequest([1], 1, cache_scope="holder"))
        [result] = results
        return result

    def submit_together(self, requests: Sequence[GenerationRequest]) -> list[Recorder]:
        return self.during_step(lambda: [self.submit(request) for request in requests])


@contextmanager
def open_house(
    num_pages: int = 64,
    max_step_tokens: int = 64,
    max_running: int = 8,
    max_waiting: int = 1024,
    window_tokens: int = WINDOW_TOKENS,
    max_speculative_rows: int = 0,
    clock: Callable[[], float] = time,
    shelf_config: ShelfConfig | None = None,
    max_wait_secs: float = 0,
    wait_clock: Callable[[], float] = monotonic,
) -> Iterator[House]:
    """An engine on the toy model; leaving the block checks that no page leaked."""
    config = EngineConfig(
        context_window_tokens=window_tokens,
        vocabulary=VOCABULARY,
        num_pages=num_pages,
        max_step_tokens=max_step_tokens,
        max_running=max_running,
        max_waiting=max_waiting,
        max_wait_secs=max_wait_secs,
        max_speculative_rows=max_speculative_rows,
    )
    program = FakeProgram(num_pages, max_step_tokens, config.max_logit_rows)
    shelf = Shelf(shelf_config, program, clock) if shelf_config else None
    encoder = FakeEncoder()
    with LocalEngine(program, config, clock, shelf, wait_clock, encoder) as engine:
        yield House(engine, program, encoder)
    assert_all_pages_back(engine.stats())


def assert_all_pages_back(stats: EngineStats) -> None:
    assert stats.num_running == stats.num_waiting == 0
    assert stats.num_pages_free + stats.num_pages_cached + stats.num_pages_pinned == stats.num_pages


def assert_as_alone(recorder: Recorder, request: GenerationRequest, window_tokens: int) -> None:
    """The request was answered with exactly the tokens it gets when it runs alone."""
    tokens, reason = expected_generation(request, window_tokens)
    assert recorder.last == Finished(reason)
    assert recorder.token_ids == tokens
