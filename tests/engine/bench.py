"""The scheduler and the model runner on the toy model without a thread, so that a test sees every step."""

from __future__ import annotations

from hokku.engine import EngineConfig
from hokku.engine.model_runner import ModelRunner
from hokku.engine.request import Request, make_request
from hokku.engine.scheduler import Scheduler
from hokku.engine.vision import Eyes
from hokku.protocol.engine import EngineEvent, GenerationRequest, Priority
from tests.engine.fake_program import FakeEncoder, FakeProgram


class Bench:
    """The scheduler and the runner without the thread, one step at a time, checked after each. A step is said to
    take one second, and `row_seconds` for each row."""

    def __init__(self, config: EngineConfig, row_seconds: float = 0.0) -> None:
        self.row_seconds = row_seconds
        self.window = config.window_tokens
        self.max_idle_batch_pages = config.max_idle_batch_pages
        self.num_steps = 0  # the clock that cache entries live by, and that waiting is measured by
        eyes = Eyes(FakeEncoder(), max_bytes=100)  # enough for few tiles
        self.scheduler = Scheduler(
            config, lambda: self.num_steps, wait_clock=lambda: self.num_steps, eyes=eyes
        )
        self.program = FakeProgram(config.num_pages, config.max_step_tokens, config.max_logit_rows)
        self.runner = ModelRunner(self.program, config)
        self.events: dict[Request, list[EngineEvent]] = {}
        self.num_arrivals = 0

    def submit(self, generation: GenerationRequest) -> Request:
        request = make_request(generation, lambda event: None, self.window)
        request.arrival = self.num_arrivals
        self.num_arrivals += 1
        self.events[request] = []
        self.scheduler.add(request)
        return request

    def step(self) -> None:
        self.num_steps += 1
        if self.scheduler.has_work():
            chunks = self.scheduler.schedule()
            assert chunks
            self._check_order()
            drawn = self.runner.run(chunks)
            seconds = 1 + self.row_seconds * sum(self.program.batch_rows[-1])
            self.scheduler.complete(chunks, drawn, seconds)
        for request, event in self.scheduler.outbox:
            self.events[request].append(event)
        self.scheduler.outbox.clear()
        self._check_pages()

    def _check_order(self) -> None:
        """Nobody runs while a request of better rank waits."""
        running = [running.request.rank for running in self.scheduler._running]
        waiting = [request.rank for queue in self.scheduler._waiting.values() for request in queue]
        assert running == sorted(running)
        assert waiting == sorted(waiting)
        assert not running or not waiting or running[-1] < waiting[0]

    def _check_pages(self) -> None:
        """Every page is free, idle, or held by exactly the requests and the pins that list it."""
        pool = self.scheduler._allocator
        users = [0] * pool.num_pages
        for running in self.scheduler._running:
            for page in running.pages:
                users[page] += 1
        assert users == pool._num_users
        pins = [0] * pool.num_pages
        entries = self.scheduler._entries
        for pin in entries._pins.values():
            assert pin.pages == [node.page for node in pin.node.path()]
            assert {entries._entries[key].pin for key in pin.keys} == {pin}
            for page in pin.pages:
                pins[page] += 1
        assert pins == pool._num_pins
        assert sum(len(pin.keys) for pin in entries._pins.values()) == len(entries)
        in_use = sum(1 for count in users if count)
        pinned = sum(1 for user, pin in zip(users, pins, strict=True) if pin and not user)
        assert pool.num_pinned == pinned
        self._check_kinds()
        assert pool.num_free + pool.num_idle + pinned + in_use == pool.num_pages
        assert len(set(pool._free)) == pool.num_free

    def _check_kinds(self) -> None:
        """What only batches have used is known by the pages as by the tree, stays within its bound, and whoever chats
        holds none of it."""
        pool = self.scheduler._allocator
        nodes = [*self.scheduler._cache._roots.values()]
        num_idle = 0
        for node in nodes:
            nodes += node.children.values()
            if node.is_cached:
                assert node.of_batches == pool._of_batches[node.page]
                assert node.of_batches or not node.parent or not node.parent.of_batches
                num_idle += node.of_batches and not pool.in_use(node.page)
        assert pool.num_idle_of_batches == num_idle <= self.max_idle_batch_pages
        for running in self.scheduler._running:
            is_chat = running.request.generation.priority is Priority.INTERACTIVE
            assert not (is_chat and running.node.of_batches)
