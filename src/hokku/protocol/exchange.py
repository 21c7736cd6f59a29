"""One HTTP request and its answer, as those see it who watch the service: metrics, logs and spans. It holds no text of
either side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import Literal

from hokku.protocol.events import BlockStart, ReplyEnd, ReplyEvent, ReplyStart, StopReason, Usage
from hokku.protocol.messages import MessagesRequest, SamplingParameters

ReplyOutcome = Literal["succeeded", "errored", "canceled"]
NO_ROUTE = "unknown"  # a path that nobody serves; each of them counts under one name


@dataclass(frozen=True, slots=True)
class Asked:
    """A request without its conversation, which may be megabytes."""

    model: str
    max_tokens: int
    sampling: SamplingParameters | None
    user_id: str | None
    seed: int | None = None

    @staticmethod
    def of(request: MessagesRequest) -> Asked:
        """What is kept of a request."""
        return Asked(request.model, request.max_tokens, request.sampling, request.user_id, request.seed)


@dataclass(slots=True)
class ReplyWatch:
    """What is seen of a reply while it passes."""

    asked: Asked
    is_streamed: bool
    model_id: str = ""  # the model that answers
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=0, output_tokens=0))
    message_id: str = ""
    stop_reason: StopReason | None = None
    first_token_at: float | None = None  # perf_counter; of the first text or call

    def note(self, events: Sequence[ReplyEvent]) -> None:
        """Look at events on their way out. Cheap, because it comes with every few tokens."""
        if self.first_token_at is None:
            for event in events:
                if isinstance(event, ReplyStart):
                    self.message_id = event.id
                elif isinstance(event, BlockStart):
                    self.first_token_at = perf_counter()
                    break
        if events and isinstance(events[-1], ReplyEnd):
            self.stop_reason = events[-1].stop_reason


@dataclass(slots=True)
class Exchange:
    """A request from its head to the last byte of its answer."""

    request_id: str
    method: str
    path: str
    traceparent: str = ""  # as the client sent them (www.w3.org/TR/trace-context)
    tracestate: str = ""
    route: str = NO_ROUTE  # as it is written in the table of routes
    status: int = 0  # 0: the client left before the answer began
    error_type: str | None = None  # the wire's word, also of an error in the middle of a stream
    reply: ReplyWatch | None = None
    began_at_ns: int = field(default_factory=time_ns)  # since 1970
    began_at: float = field(default_factory=perf_counter)
    ended_at: float = 0.0

    def end(self, route: str) -> None:
        """The last byte has gone, or nobody is there to have it."""
        self.route = route
        self.ended_at = perf_counter()

    @property
    def secs(self) -> float:
        """How long all of it took."""
        return self.ended_at - self.began_at

    @property
    def first_token_secs(self) -> float | None:
        """From the request's head to the first token on its way to the client; None where the reply was not
        streamed, or had none."""
        reply = self.reply
        if reply is None or not reply.is_streamed or reply.first_token_at is None:
            return None
        return reply.first_token_at - self.began_at

    @property
    def secs_an_output_token(self) -> float | None:
        """The mean time between two tokens of a stream, after the first."""
        reply = self.reply
        if reply is None or self.first_token_secs is None or reply.usage.output_tokens < 2:
            return None
        assert reply.first_token_at is not None
        return (self.ended_at - reply.first_token_at) / (reply.usage.output_tokens - 1)

    @property
    def outcome(self) -> ReplyOutcome | None:
        """How the reply ended; None where there was none."""
        if self.reply is None:
            return None
        if self.error_type is not None:
            return "errored"
        return "canceled" if self.reply.stop_reason is None else "succeeded"


Observer = Callable[
    [Exchange], None
]  # told of an exchange once, at its end, on the event loop: it must return at once
