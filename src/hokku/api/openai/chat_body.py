"""The body of `POST /v1/chat/completions`, checked and read into the values of the house (wire.md section 15)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hokku.api.anthropic.fields import refuse, refuse_extras, required
from hokku.api.anthropic.parameters import read_model
from hokku.api.config import Compatibility
from hokku.api.openai.conversation import read_messages
from hokku.api.openai.parameters import (
    IGNORED_WHERE_HOSTED,
    UNSERVED,
    Delivery,
    OutputLimit,
    as_hosted,
    check_harmless,
    check_thinking,
    read_delivery,
    read_limit,
    read_sampling,
    read_seed,
    read_stop,
    read_user,
    refuse_unserved,
)
from hokku.api.openai.tools import ToolsReader, uses_functions
from hokku.protocol.messages import Conversation, MessagesRequest
from hokku.registry.manifest import Manifest

HONOURED_KEYS = (
    "model",
    "messages",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "response_format",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "user",
    "safety_identifier",
    "stream",
    "stream_options",
    "thinking",
)
HARMLESS_KEYS = ("metadata", "prediction", "prompt_cache_key")
CHAT_KEYS = frozenset({*HONOURED_KEYS, *HARMLESS_KEYS, *UNSERVED, *IGNORED_WHERE_HOSTED})
_LIMITS = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class ChatBody:
    """A checked body."""

    request: MessagesRequest  # without its limit where the client names none
    limit: OutputLimit | None
    delivery: Delivery
    uses_functions: bool  # whether calls are answered in the older form

    def request_to(self, manifest: Manifest) -> MessagesRequest:
        """The request, complete: a reply without a limit may be as long as the model's may, and ends at the window."""
        if self.limit is not None:
            return replace(self.request, max_tokens=self.limit.num_tokens)
        return replace(self.request, max_tokens=manifest.max_output_tokens, window_overrun_allowed=True)


def parse_chat_body(given: dict[str, Any], compatibility: Compatibility) -> ChatBody:
    """Read and check a body. Raises `InvalidRequest`."""
    refuse_extras(given, CHAT_KEYS, "")
    body = as_hosted(given, compatibility)
    model = read_model(body)
    system, turns = read_messages(required(body, "messages", ""), compatibility)
    tools_reader = ToolsReader(compatibility)
    tools, choice = tools_reader.read(body)
    output_schema = tools_reader.read_format(body.get("response_format"))
    limit = read_limit(body, _LIMITS, least=1)
    check_thinking(body.get("thinking"))
    check_harmless(body)
    refuse_unserved(body)
    if turns[-1].role == "assistant":
        if choice.is_forced:
            refuse("tool_choice", "a forced call cannot continue a final assistant message")
        if output_schema is not None:
            refuse("response_format", "cannot be combined with a final assistant message")
    request = MessagesRequest(
        model=model,
        conversation=Conversation(system, turns, tools, choice, output_schema),
        max_tokens=0,
        stop_sequences=read_stop(body.get("stop"), compatibility),
        sampling=read_sampling(body, compatibility),
        user_id=read_user(body),
        seed=read_seed(body.get("seed")),
    )
    return ChatBody(request, limit, read_delivery(body), uses_functions(body))
