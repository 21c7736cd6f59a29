"""A conversation as values: the native form in which every wire hands its request to the house.

A wire checks its own syntax and turns the body into a `MessagesRequest`; from there on nobody knows which wire it
was. Turns alternate after merging; a final assistant turn is a prefill that the reply continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Prose in a turn or in the system prompt."""

    text: str


Part = TextPart


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. Consecutive turns of one role have been merged into one, parts in order."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the model is shown. The last turn is the user's, or the assistant's when it is a prefill."""

    system: tuple[TextPart, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How tokens are drawn, as clients may say it; the defaults are the API's own."""

    temperature: float = 1.0  # 0 takes the likeliest token
    top_p: float = 1.0  # 1 is off
    top_k: int = 0  # 0 is off


@dataclass(frozen=True, slots=True)
class MessagesRequest:
    """One request for a reply, checked and defaulted (wire.md section 2.1)."""

    model: str  # as the client wrote it: an id or an alias
    conversation: Conversation
    max_tokens: int  # 0 = prefill only
    stop_sequences: tuple[str, ...] = ()
    sampling: SamplingParameters | None = None  # None: the client left all of it to the model
    user_id: str | None = None
    window_overrun_allowed: bool = False  # the client opted in to stop_reason model_context_window_exceeded
