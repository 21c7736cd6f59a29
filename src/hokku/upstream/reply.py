"""A reply of another service under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hokku.protocol.errors import HokkuError, UpstreamFailed
from hokku.protocol.events import ReplyEnd, ReplyEvent, ReplyStart, Usage
from hokku.protocol.records import RateLevels

_log = logging.getLogger(__name__)
# Events that nobody has read yet; beyond it the service is left waiting, and its network buffers fill up.
_MAX_UNREAD = 1_024


class UpstreamReply:
    """A `ReplyStream`, fed by a task of its own: a reader's timeout must not break a read of the network.

    Args:
        source: the events, a few at a time; ends after a `ReplyEnd`, or raises.
        model_id: whom was asked, until the service says who answers.
    """

    def __init__(self, source: AsyncGenerator[list[ReplyEvent]], model_id: str) -> None:
        self.is_finished = False
        self.model_id = model_id
        self.usage = Usage(0, 0)
        self.fallback_reason: str | None = None  # that is for whoever asked to know
        self.rate_levels: RateLevels | None = None  # and that too
        self._source = source
        self._ready: list[ReplyEvent] = []
        self._failure: HokkuError | None = None
        self._has_arrived = asyncio.Event()  # something to read, or the end
        self._has_room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Wait for the first event. Raises what kept it from coming."""
        self._task = asyncio.create_task(self._fill())
        try:
            await self._has_arrived.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        # A bare start is nothing yet: the failure behind it can still be told as one.
        if self._failure and all(isinstance(event, ReplyStart) for event in self._ready):
            self.is_finished = True
            raise self._failure

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        if not self._has_arrived.is_set():
            try:
                await asyncio.wait_for(self._has_arrived.wait(), timeout_secs)
            except TimeoutError:
                return []
        if self.is_finished:
            return []
        events, self._ready = self._ready, []
        if not events:
            self.is_finished = True
            if self._failure:
                raise self._failure
            return []
        if self._is_under_way():
            self._has_arrived.clear()
        self._has_room.set()
        self._note(events)
        return events

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        events: list[ReplyEvent] = []
        while not self.is_finished:
            events += await self.next_events()
        return events

    def cancel(self) -> None:
        """See `ReplyStream`. The connection is closed, which ends the generation there."""
        self.is_finished = True
        self._ready.clear()
        if self._task is not None:
            self._task.cancel()
        self._has_arrived.set()

    def _is_under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    def _note(self, events: list[ReplyEvent]) -> None:
        first, last = events[0], events[-1]
        if isinstance(first, ReplyStart):
            self.model_id, self.usage = first.model, first.usage
        if isinstance(last, ReplyEnd):
            self.usage = last.usage
            self.is_finished = True

    async def _fill(self) -> None:
        try:
            async with aclosing(self._source) as source:
                async for events in source:
                    self._ready += events
                    self._has_arrived.set()
                    while len(self._ready) > _MAX_UNREAD:
                        self._has_room.clear()
                        await self._has_room.wait()
        except HokkuError as failure:
            self._failure = failure
        except Exception as cause:
            _log.exception("reading a reply of another service failed")
            self._failure = UpstreamFailed(f"reading the service's reply failed: {type(cause).__name__}")
        finally:
            self._has_arrived.set()
