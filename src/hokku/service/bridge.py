"""From the engine's thread into asyncio, with one wake-up of the event loop a step for all streams together.

The engine calls a sink for every running request at the end of each step. Waking the loop costs a system call
and a switch of the interpreter lock, so the first post of a step wakes it and the others join the same queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hokku.protocol.engine import EngineEvent, Failed, Finished, Started, Tokens


@dataclass(slots=True)
class Arrivals:
    """What an inbox has received since it was last emptied."""

    started: Started | None = None
    token_ids: list[int] = field(default_factory=list)
    final: Finished | Failed | None = None

    def __bool__(self) -> bool:
        return bool(self.started or self.token_ids or self.final)


class LoopBridge:
    """Carries engine events to inboxes on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.num_wakeups = 0
        self._queue: deque[tuple[Inbox, EngineEvent]] = deque()
        self._is_scheduled = False

    def post(self, inbox: Inbox, event: EngineEvent) -> None:
        """Hand over an event; any thread, returns at once.

        No lock is needed: `_drain` clears the flag before it empties the queue, so a post that finds the flag
        set was queued before that emptying ends. A second engine thread can at worst cause an idle wake-up.
        """
        self._queue.append((inbox, event))
        if self._is_scheduled:
            return
        self._is_scheduled = True
        try:
            self.loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop has been closed: nobody is left to read
            self._queue.clear()

    def _drain(self) -> None:
        self.num_wakeups += 1
        self._is_scheduled = False
        while self._queue:
            inbox, event = self._queue.popleft()
            inbox.deliver(event)


class Inbox:
    """One request's engine events, read by one task.

    Unread tokens gather in one list, so a reader that is slow gets few large pieces; the list is bounded by
    the request's own `max_new_tokens`.
    """

    def __init__(self, bridge: LoopBridge) -> None:
        self._bridge = bridge
        self._arrivals = Arrivals()
        self._reader: asyncio.Future[None] | None = None

    def sink(self, event: EngineEvent) -> None:
        """The engine's side."""
        self._bridge.post(self, event)

    def deliver(self, event: EngineEvent) -> None:
        """The bridge's side, on the loop."""
        match event:
            case Tokens(ids=ids):
                self._arrivals.token_ids.extend(ids)
            case Started():
                self._arrivals.started = event
            case Finished() | Failed():
                self._arrivals.final = event
        self.wake_reader()

    async def take(self, timeout_secs: float | None = None) -> Arrivals:
        """Everything that has arrived, waiting until something does; empty after `timeout_secs`."""
        if not self._arrivals:
            await self._wait(timeout_secs)
        arrivals, self._arrivals = self._arrivals, Arrivals()
        return arrivals

    def wake_reader(self) -> None:
        """Let a waiting `take` return at once."""
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    async def _wait(self, timeout_secs: float | None) -> None:
        loop = self._bridge.loop
        self._reader = loop.create_future()
        timer = None if timeout_secs is None else loop.call_later(timeout_secs, self.wake_reader)
        try:
            await self._reader
        finally:
            self._reader = None
            if timer:
                timer.cancel()
