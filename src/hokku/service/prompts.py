"""A prompt between its reading and its reply: whoever has to know its length first reads it, and hands it on."""

from __future__ import annotations

from dataclasses import dataclass

from hokku.protocol.messages import Conversation
from hokku.service.models import EncodedPrompt, ServedModel


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A request's conversation as one model reads it."""

    model: ServedModel
    conversation: Conversation  # with what is attached to it
    num_tokens: int
    encoded: EncodedPrompt | None  # None: far beyond the window, its tokens are only estimated
