"""Stop 4 of 8, the engine. Down: `service/messages.py` submits a generation, which joins the queue of
`scheduler.py`. Up: each request's events go to its sink.

One thread owns all state and repeats three verbs: schedule, run, post-process. Everybody else leaves commands
in a locked mailbox, and the thread sleeps on it when there is nothing to do.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from time import monotonic, perf_counter, time

from hokku.engine.config import EngineConfig
from hokku.engine.model_runner import ModelRunner, StepProgram
from hokku.engine.prompt_cache import Clock
from hokku.engine.request import Request, make_request
from hokku.engine.scheduler import Scheduler
from hokku.engine.shelf import Shelf
from hokku.engine.shelf_file import Bytes
from hokku.engine.vision import Encoder, Eyes
from hokku.protocol.engine import (
    EngineEvent,
    EngineStats,
    EventSink,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    RequestHandle,
)
from hokku.protocol.errors import EngineFailed, InvalidRequest, Overloaded

_log = logging.getLogger(__name__)
_CANCELLED = Finished(FinishReason.CANCELLED)


@dataclass(frozen=True, slots=True)
class _Handle:
    engine: LocalEngine
    request: Request

    def cancel(self) -> None:
        self.engine._cancel(self.request)


class LocalEngine:
    """The `Engine` port in this process: continuous batching over one recorded program.

    The program must hold `config.max_step_tokens` rows, `config.max_logit_rows` logit rows and
    `config.num_pages` pages, and belongs to the engine's thread from here on. Close the engine, or use it as
    a context manager: its thread keeps the interpreter alive. `clock` is what cache entries live by; they go to the
    `shelf`, which is closed with the engine, when memory is short. Waiting is measured by the `wait_clock`. Without an
    `encoder`, which belongs to the engine's thread too, requests with pictures are refused.
    """

    def __init__(
        self,
        program: StepProgram,
        config: EngineConfig,
        clock: Clock = time,
        shelf: Shelf | None = None,
        wait_clock: Clock = monotonic,
        encoder: Encoder | None = None,
    ) -> None:
        self._window_tokens = config.window_tokens
        self._max_waiting = config.max_waiting
        self._sees = encoder is not None
        self._runner = ModelRunner(program, config)
        eyes = Eyes(encoder) if encoder else None
        self._scheduler = Scheduler(config, clock, shelf, wait_clock, eyes)
        self._shelf = shelf
        # Guarded by the mailbox:
        self._mailbox = threading.Condition()
        self._arrivals: list[Request] = []
        self._cancellations: list[Request] = []
        self._loaded: list[tuple[bytes, Bytes | None]] = []
        self._closing = False
        self._num_submitted = 0
        self._num_waiting = 0  # in the mailbox or in the scheduler's queues
        self._stats = self._scheduler.stats()
        self._thread = threading.Thread(target=self._serve, name="hokku-engine")
        self._thread.start()
        if shelf:
            shelf.start(self._take_in)

    @property
    def context_window_tokens(self) -> int:
        """Most tokens a prompt and its output may have together: the model's window, or all pages if that is
        less."""
        return self._window_tokens

    def submit(self, request: GenerationRequest, sink: EventSink) -> RequestHandle:
        """See `Engine.submit`. Raises `EngineFailed` once the engine is closed."""
        if request.tiles and not self._sees:
            raise InvalidRequest("this model reads text only", place="tiles")
        queued = make_request(request, sink, self._window_tokens)
        with self._mailbox:
            if self._closing:
                raise EngineFailed("the engine is closed")
            if self._num_waiting >= self._max_waiting:
                raise Overloaded(
                    f"{self._num_waiting} requests are waiting already", way_out="try again later"
                )
            queued.arrival = self._num_submitted
            self._num_submitted += 1
            self._num_waiting += 1
            self._arrivals.append(queued)
            self._mailbox.notify()
        return _Handle(self, queued)

    def stats(self) -> EngineStats:
        """See `Engine.stats`. A request's events are delivered after the snapshot that knows of them."""
        with self._mailbox:
            return replace(self._stats, num_waiting=self._num_waiting)

    def close(self) -> None:
        """See `Engine.close`. Called from a sink, it does not wait for the thread, which is the sink's
        own."""
        with self._mailbox:
            self._closing = True
            self._mailbox.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        shelf, self._shelf = self._shelf, None  # it holds the memory of the pages
        if shelf:
            shelf.close()

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cancel(self, request: Request) -> None:
        with self._mailbox:
            if not self._closing:
                self._cancellations.append(request)
                self._mailbox.notify()

    def _take_in(self, key: bytes, pages: Bytes | None) -> None:
        """The shelf's side."""
        with self._mailbox:
            self._loaded.append((key, pages))
            self._mailbox.notify()

    # The engine's thread.

    def _serve(self) -> None:
        last_event: Finished | Failed = _CANCELLED
        try:
            while self._take_commands():
                self._step()
                self._publish()
                self._deliver()
        except Exception as error:
            _log.exception("the engine's thread broke; it serves no more requests")
            last_event = Failed(_engine_failed(error))
        self._end_all(last_event)

    def _take_commands(self) -> bool:
        """Wait for work and take in what has arrived; false when it is time to close."""
        with self._mailbox:
            while not (self._has_commands() or self._scheduler.has_work()):
                self._mailbox.wait()
            if self._closing:
                return False
            arrivals, self._arrivals = self._arrivals, []
            cancellations, self._cancellations = self._cancellations, []
            loaded, self._loaded = self._loaded, []
        for request in arrivals:
            self._scheduler.add(request)
        for key, pages in loaded:
            self._scheduler.take_loaded(key, pages)
        for request in cancellations:
            self._scheduler.end(request, _CANCELLED)
        return True

    def _has_commands(self) -> bool:
        return bool(self._arrivals or self._cancellations or self._loaded or self._closing)

    def _step(self) -> None:
        chunks = self._scheduler.schedule()
        self._publish()  # a step takes long enough for newcomers to notice that the queue has room again
        if not chunks:
            return
        began = perf_counter()
        try:
            drawn = self._runner.run(chunks)
        except Exception as error:
            _log.exception("a step failed; its requests end here")
            self._scheduler.fail_step(_engine_failed(error))
        else:
            self._scheduler.complete(chunks, drawn, perf_counter() - began)

    def _publish(self) -> None:
        with self._mailbox:
            self._stats = self._scheduler.stats()
            self._num_waiting = self._stats.num_waiting + len(self._arrivals)

    def _deliver(self) -> None:
        """Hand the events out, in order. Whoever's sink raises has its request ended; the others go on."""
        outbox, self._scheduler.outbox = self._scheduler.outbox, []
        for request, event in outbox:
            if not request.closed:
                self._hand_over(request, event)

    def _hand_over(self, request: Request, event: EngineEvent) -> None:
        request.closed = isinstance(event, Finished | Failed)
        try:
            request.sink(event)
        except Exception as error:
            _log.exception("the sink of a request raised on %s", event)
            if not request.closed:
                failure = Failed(_engine_failed(error))
                self._scheduler.end(request, failure)
                self._publish()
                self._hand_over(request, failure)

    def _end_all(self, event: Finished | Failed) -> None:
        with self._mailbox:
            self._closing = True
            arrivals, self._arrivals = self._arrivals, []
        for request in arrivals:
            self._scheduler.add(request)
        self._scheduler.end_all(event)
        self._publish()
        self._deliver()
        del self._runner, self._scheduler


def _engine_failed(cause: Exception) -> EngineFailed:
    failure = EngineFailed(f"the engine failed under this request: {cause}")
    failure.__cause__ = cause
    return failure
