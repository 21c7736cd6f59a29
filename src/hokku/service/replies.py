"""Who replies, and a reply under way, as the wires see them: whichever model answers, and wherever it runs."""

from __future__ import annotations

from typing import Protocol

from hokku.protocol.events import ReplyEvent, Usage
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.protocol.records import RateLevels
from hokku.service.keys import Identity
from hokku.service.prompts import ReadPrompt


class ReplyStream(Protocol):
    """One reply under way. It must be read to its end or closed with `cancel`."""

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing more to read: the end has been given, the reply has failed, or was cancelled."""

    @property
    def model_id(self) -> str:
        """The model that answers. Final once an event has been read."""

    @property
    def fallback_reason(self) -> str | None:
        """Why it is not the model that the request named; None where it is. Final like `model_id`."""

    @property
    def rate_levels(self) -> RateLevels | None:
        """How full the caller's buckets were when the request was let in; None where nobody looked."""

    @property
    def usage(self) -> Usage:
        """Tokens read and generated so far."""

    async def next_events(self, timeout_secs: float | None = None) -> list[ReplyEvent]:
        """Every event that is ready, at least one; none when `timeout_secs` pass first, or after `cancel`.

        Raises what made the reply fail, once.
        """

    async def all_events(self) -> list[ReplyEvent]:
        """Every event from here to the end. Without a `ReplyEnd` after `cancel`; raises like `next_events`."""

    def cancel(self) -> None:
        """Stop; what was not yet read is dropped. Idempotent; harmless after the end."""


class Replies(Protocol):
    """The use case behind every wire of messages."""

    async def reply(self, request: MessagesRequest, identity: Identity) -> ReplyStream:
        """Start a reply. Raises `NotFound`, `InvalidRequest`, `Overloaded`."""

    async def count(self, model_name: str, conversation: Conversation, identity: Identity) -> int:
        """How many tokens the prompt has, whether or not it fits the window."""


class ReadingReplies(Replies, Protocol):
    """Replies whose prompt can be read first: for those who let a request in by its length."""

    async def read(self, request: MessagesRequest, identity: Identity) -> ReadPrompt | None:
        """The prompt as the named model reads it, whether or not it fits the window; None where another model is to
        answer. Raises like `reply`."""

    async def reply(
        self, request: MessagesRequest, identity: Identity, prompt: ReadPrompt | None = None
    ) -> ReplyStream:
        """See `Replies`. A `prompt` that `read` has given for this request is not read again."""
