"""What the two forms of other services have in common, as the one place that speaks HTTP sees them."""

from __future__ import annotations

from typing import Protocol

from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import ReplyEvent
from hokku.protocol.messages import MessagesRequest
from hokku.upstream.config import HttpRequest, UpstreamConfig
from hokku.upstream.sse import ServerEvent


class ReplyReader(Protocol):
    """One reply, out of a service's events."""

    @property
    def has_ended(self) -> bool:
        """Whether the reply is complete."""

    def read(self, event: ServerEvent) -> list[ReplyEvent]:
        """What one event of the service says. Raises `UpstreamFailed`, or the error that it tells of."""

    def finish(self) -> list[ReplyEvent]:
        """The service says no more. Raises `UpstreamFailed` where its reply is not complete."""


class Form(Protocol):
    """How a service is asked, and how it answers."""

    def http_request(self, request: MessagesRequest, config: UpstreamConfig) -> HttpRequest:
        """The request in this form. Raises `InvalidRequest` for what the form has no words for."""

    def reader(self, request: MessagesRequest, config: UpstreamConfig) -> ReplyReader:
        """A fresh reader for the reply to `request`."""


def unsayable(place: str, what: str) -> InvalidRequest:
    """The error for what a form has no words for."""
    return InvalidRequest(
        f"the service that answers in the model's place cannot be sent {what}: its form has no words for it",
        place=place,
    )
