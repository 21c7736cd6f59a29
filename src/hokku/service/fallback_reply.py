"""A reply of which it is still open who gives it: the model that was named, or the one it falls back to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hokku.protocol.errors import (
    EngineFailed,
    HokkuError,
    InvalidRequest,
    ModelLoading,
    Overloaded,
    PromptTooLong,
    WaitedTooLong,
)
from hokku.protocol.events import ReplyEvent, Usage
from hokku.registry.fallback import Fallback, Reason
from hokku.service.replies import ReplyStream

_log = logging.getLogger(__name__)
# The first that fits is the reason.
_REASON_OF_ERROR: dict[type[HokkuError], Reason] = {
    ModelLoading: "loading",
    Overloaded: "overloaded",
    PromptTooLong: "too_long",
    EngineFailed: "engine_failed",
}


def reason_for(error: HokkuError, fallback: Fallback) -> Reason | None:
    """Why another model is to answer where the named one has failed so; None where the error stands."""
    reason = next((word for kind, word in _REASON_OF_ERROR.items() if isinstance(error, kind)), None)
    return reason if reason in fallback.when else None


class FallbackReply:
    """A `ReplyStream` of the named model or of the one it falls back to.

    Whichever gives the first events, or lets the first waiting end without any, is the one that answers to the end:
    from then on the wire may have sent something.
    """

    def __init__(
        self, model_id: str, fallback: Fallback, hand_on: Callable[[], Awaitable[ReplyStream]]
    ) -> None:
        self._model_id = model_id
        self._fallback = fallback
        self._hand_on = hand_on
        self._stream: ReplyStream | None = None
        self._is_settled = False
        self._is_over = False  # cancelled, or failed before anything was settled
        self._reason: Reason | None = None
        self._error: HokkuError | None = None  # what kept the named model from answering
        self._settling: asyncio.Future[list[ReplyEvent]] | None = None

    def begin(self, stream: ReplyStream) -> None:
        """The named model has taken the request."""
        self._stream = stream

    def fall_back(self, reason: Reason) -> None:
        """It is another that is to answer."""
        self._reason = reason

    def fall_back_or_raise(self, error: HokkuError) -> None:
        """The named model has failed: another is to answer, if this is a reason for it."""
        reason = reason_for(error, self._fallback)
        if reason is None:
            raise error
        self._reason, self._error, self._stream = reason, error, None

    @property
    def is_finished(self) -> bool:
        """See `ReplyStream`."""
        return self._is_over or (self._is_settled and self._stream is not None and self._stream.is_finished)

    @property
    def model_id(self) -> str:
        """See `ReplyStream`."""
        return self._stream.model_id if self._stream else self._model_id

    @property
    def rate_levels(self) -> None:
        """Nobody looked here."""

    @property
    def fallback_reason(self) -> Reason | None:
        """See `ReplyStream`."""
        return self._reason

    @property
    def usage(self) -> Usage:
        """See `ReplyStream`."""
        return self._stream.usage if self._stream else Usage(0, 0)

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """See `ReplyStream`. Until it is settled who answers, another model's first event is waited for longer than
        `timeout_secs`."""
        if self._is_settled and self._stream is not None:
            return await self._stream.next_events(timeout_secs)
        return await self._settle(lambda stream: stream.next_events(timeout_secs))

    async def all_events(self) -> list[ReplyEvent]:
        """See `ReplyStream`. Nothing has been sent before the end: the named model may fail as late as that."""
        if self._is_settled and self._stream is not None:
            return await self._stream.all_events()
        return await self._settle(lambda stream: stream.all_events())

    def cancel(self) -> None:
        """See `ReplyStream`."""
        self._is_over = True
        if self._stream is not None:
            self._stream.cancel()
        if self._settling is not None:
            self._settling.cancel()

    async def _settle(self, read: Callable[[ReplyStream], Awaitable[list[ReplyEvent]]]) -> list[ReplyEvent]:
        if self._is_over:
            return []
        # In a task, so that `cancel` can end it.
        self._settling = asyncio.ensure_future(self._first_events(read))
        try:
            events = await self._settling
            return [] if self._is_over else events
        except asyncio.CancelledError:
            if self._is_over:
                self.cancel()  # the other may have answered at this very moment
                return []
            raise
        except HokkuError:
            self._is_over = True
            raise
        finally:
            self._settling = None
            self._is_settled = True

    async def _first_events(
        self, read: Callable[[ReplyStream], Awaitable[list[ReplyEvent]]]
    ) -> list[ReplyEvent]:
        if self._stream is not None:
            try:
                return await read(self._stream)
            except (EngineFailed, WaitedTooLong) as error:
                self.fall_back_or_raise(error)
        _log.info(
            "model %s hands a request on to %s: %s", self._model_id, self._fallback.target, self._reason
        )
        try:
            self._stream = await self._hand_on()
            return await read(self._stream)
        except HokkuError as failure:
            _log.warning(
                "model %s handed a request on to %s (%s), which failed: %s",
                self._model_id,
                self._fallback.target,
                self._reason,
                failure,
            )
            # As a rule it is the named model's error that the caller can act on; but a request that this model will
            # never take can only be mended by what the other says of it.
            is_theirs = self._reason == "too_long" and isinstance(failure, InvalidRequest)
            if self._error is None or is_theirs:
                raise
            raise self._error from failure
