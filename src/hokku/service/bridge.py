"""From the engine's thread into asyncio, with one wake-up of the event loop a step for all streams together.

The engine calls a sink for every running request at the end of each step. Waking the loop costs a system call
and a switch of the interpreter lock, so the first post of a step wakes it and the others join the same queue.

What a reader then does with a token (a task switch, a write to a socket, the wake-up of a client on the same
machine) takes about 30 µs of a core that the engine would use as well. With many streams that adds up, so the
readers of `Tokens` are woken in rounds, and a round of n readers is followed by a pause of n times
`SECS_A_READER`, in which tokens gather: what readers cost is bounded, however many there are. A lone stream
never notices; with 32 at 8 ms a step every second step is read, and a token waits for at most the next one.
The first tokens of a reply and its end wait for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from hokku.protocol.engine import EngineEvent, Failed, Finished, Started, Tokens

# Readers then take at most about 6 % of one core, and tokens of 32 streams wait for at most 16 ms and the step
# under way: one or two pictures of a 60 Hz screen. docs/lab-notebook.md has what was measured.
SECS_A_READER = 0.0005
# Events that nobody is in a hurry to have; each takes some 200 bytes, as part of a list of tokens only a few.
MAX_QUEUED = 1024


@dataclass(slots=True)
class Arrivals:
    """What an inbox has received since it was last emptied."""

    started: Started | None = None
    token_ids: list[int] = field(default_factory=list)
    final: Finished | Failed | None = None

    def __bool__(self) -> bool:
        return bool(self.token_ids or self.started or self.final)


class LoopBridge:
    """Carries engine events to inboxes on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.num_wakeups = 0
        self._queue: deque[tuple[Inbox, EngineEvent]] = deque()
        self._is_scheduled = False
        self._gathering: list[Inbox] = []  # have tokens that their readers have not been told of
        self._next_round_at = 0.0  # loop time
        self._pause_secs = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def post(self, inbox: Inbox, event: EngineEvent, *, is_urgent: bool = True) -> None:
        """Hand over an event; any thread, returns at once. What is not urgent waits for what is, or for company.

        No lock is needed: `_wake_up` clears the flag before it empties the queue, so a post that finds the flag
        set was queued before that emptying ends. A second engine thread can at worst cause an idle wake-up.
        """
        self._queue.append((inbox, event))
        if self._is_scheduled or not (is_urgent or len(self._queue) > MAX_QUEUED):
            return
        self._is_scheduled = True
        try:
            self.loop.call_soon_threadsafe(self._wake_up)
        except RuntimeError:  # the loop has been closed: nobody is left to read
            self._queue.clear()

    def _wake_up(self) -> None:
        self.num_wakeups += 1
        self._is_scheduled = False
        self.deliver()

    def deliver(self) -> None:
        """Put what is queued into the inboxes, on the loop."""
        queue, gathering = self._queue, self._gathering
        while queue:
            inbox, event = queue.popleft()
            if inbox.deliver(event):
                gathering.append(inbox)
        if not gathering:
            return
        if self.loop.time() >= self._next_round_at:
            self._wake_readers()
        elif self._timer is None:
            # A round follows a step, so that no token waits without need; this is for when no step follows soon.
            self._timer = self.loop.call_at(self._next_round_at + self._pause_secs, self._wake_readers)

    def _wake_readers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for inbox in self._gathering:
            inbox.wake_reader()
        self._pause_secs = len(self._gathering) * SECS_A_READER
        self._next_round_at = self.loop.time() + self._pause_secs
        self._gathering.clear()


class Inbox:
    """One request's engine events, read by one task.

    Unread tokens gather in one list, so a reader that is slow gets few large pieces; the list is bounded by
    the request's own `max_new_tokens`.
    """

    def __init__(self, bridge: LoopBridge, *, is_patient: bool = True) -> None:
        """`is_patient`: whether tokens after the first may wait for a round of the bridge."""
        self.waits_for_end = False  # the reader wants everything at once: tokens do not wake it
        self._bridge = bridge
        self._is_patient = is_patient
        self._has_tokens = False
        self._is_gathering = False
        self._arrivals = Arrivals()
        self._reader: asyncio.Future[None] | None = None
        # Making and cancelling a timer for every wait would cost as much as reading a token; so one is left
        # running, and put off when it rings too early.
        self._timer: asyncio.TimerHandle | None = None
        self._waits_until = 0.0  # loop time

    def sink(self, event: EngineEvent) -> None:
        """The engine's side."""
        is_urgent = not self.waits_for_end or isinstance(event, Finished | Failed)
        self._bridge.post(self, event, is_urgent=is_urgent)

    def deliver(self, event: EngineEvent) -> bool:
        """The bridge's side, on the loop: take the event in, and wake the reader if it is not to wait.

        Returns whether the inbox is to be woken in the next round.
        """
        match event:
            case Tokens():
                self._arrivals.token_ids += event.ids
                if self.waits_for_end:
                    return False
                if self._has_tokens and self._is_patient:
                    begins, self._is_gathering = not self._is_gathering, True
                    return begins
                self._has_tokens = True
            case Started():
                self._arrivals.started = event
                if self.waits_for_end:
                    return False
            case Finished() | Failed():
                self._arrivals.final = event
                self._drop_timer()
        self.wake_reader()
        return False

    async def take(self, timeout_secs: float | None = None) -> Arrivals:
        """Everything that has arrived, waiting until something does; empty after `timeout_secs`."""
        if self._may_not_read():
            await self._wait(timeout_secs)
        return self._emptied()

    def take_now(self) -> Arrivals:
        """Everything that has arrived, also what waits in the bridge for company."""
        self._bridge.deliver()
        return self._emptied()

    def _emptied(self) -> Arrivals:
        arrivals, self._arrivals = self._arrivals, Arrivals()
        return arrivals

    def wake_reader(self) -> None:
        """Let a waiting `take` return at once."""
        self._is_gathering = False
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def _may_not_read(self) -> bool:
        if self._arrivals.final:
            return False
        return self.waits_for_end or self._is_gathering or not self._arrivals

    async def _wait(self, timeout_secs: float | None) -> None:
        loop = self._bridge.loop
        self._reader = loop.create_future()
        if timeout_secs is not None:
            self._waits_until = loop.time() + timeout_secs
            if self._timer is None:
                self._timer = loop.call_at(self._waits_until, self._ring)
        try:
            await self._reader
        finally:
            self._reader = None

    def _ring(self) -> None:
        loop = self._bridge.loop
        self._timer = None
        if self._reader is None:
            return  # busy with what has arrived; the next wait sets the timer again
        if loop.time() < self._waits_until:
            self._timer = loop.call_at(self._waits_until, self._ring)
        else:
            self.wake_reader()

    def _drop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
