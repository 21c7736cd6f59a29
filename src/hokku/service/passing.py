"""Replies that pass through somebody's hands: for those who stand around a use case and want to see its end."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hokku.protocol.events import ReplyEnd, ReplyEvent, Usage
from hokku.protocol.records import Outcome, RateLevels
from hokku.service.replies import ReplyStream


class PassedReply:
    """A reply as it comes."""

    def __init__(self, stream: ReplyStream) -> None:
        self._stream = stream

    @property
    def is_finished(self) -> bool:
        """See `ReplyStream`."""
        return self._stream.is_finished

    @property
    def model_id(self) -> str:
        """See `ReplyStream`."""
        return self._stream.model_id

    @property
    def fallback_reason(self) -> str | None:
        """See `ReplyStream`."""
        return self._stream.fallback_reason

    @property
    def rate_levels(self) -> RateLevels | None:
        """See `ReplyStream`."""
        return self._stream.rate_levels

    @property
    def usage(self) -> Usage:
        """See `ReplyStream`."""
        return self._stream.usage

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        return await self._stream.next_events(timeout_secs)

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        return await self._stream.all_events()

    def cancel(self) -> None:
        """See `ReplyStream`."""
        self._stream.cancel()


class WatchedReply(PassedReply, ABC):
    """A reply that tells once how it has ended: with its last event, by a failure, or because it was cancelled."""

    def __init__(self, stream: ReplyStream) -> None:
        super().__init__(stream)
        self._has_ended = False

    @abstractmethod
    def _ended(self, outcome: Outcome) -> None:
        """Take note; `usage` is final."""

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        try:
            events = await self._stream.next_events(timeout_secs)
        except Exception:
            self._end("errored")
            raise
        return self._noted(events)

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`."""
        try:
            events = await self._stream.all_events()
        except Exception:
            self._end("errored")
            raise
        return self._noted(events)

    def cancel(self) -> None:
        """See `ReplyStream`."""
        self._stream.cancel()
        self._end("canceled")

    def _noted(self, events: list[ReplyEvent]) -> list[ReplyEvent]:
        if events and isinstance(events[-1], ReplyEnd):
            self._end("succeeded")
        return events

    def _end(self, outcome: Outcome) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._ended(outcome)
