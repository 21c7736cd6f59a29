"""The body of Messages and of count_tokens, checked field by field in the wire's order (wire.md 2.1, 2.8,
2.10).

One validator serves both endpoints. One error is reported a request: first what is wrong with the body's
form, in the order of the fields below, then the conversation's shape, then what this release or this model
does not serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hokku.api.anthropic.attachments import refuse_mixed_citations
from hokku.api.anthropic.conversation import (
    merge_turns,
    needs_automatic_mark,
    read_items,
    read_system,
    refuse_prefill,
    with_automatic_mark,
)
from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.fields import (
    a_boolean,
    an_integer,
    an_object,
    one_of,
    refuse,
    refuse_extras,
    refuse_tag,
    required,
)
from hokku.api.anthropic.findings import CacheTtl, Findings, Refusal, cache_ttl, check_marks
from hokku.api.anthropic.parameters import (
    SAMPLING_KEYS,
    read_model,
    read_stop_sequences,
    read_top_k,
    read_unit_number,
    read_user_id,
)
from hokku.api.anthropic.tools import read_output_config, read_tool_choice, read_tools
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Conversation, MessagesRequest, SamplingParameters

PROMPT_KEYS = (
    "model",
    "tool_choice",
    "tools",
    "messages",
    "system",
    "thinking",
    "output_config",
    "cache_control",
)
MESSAGES_KEYS = (
    *PROMPT_KEYS,
    "max_tokens",
    "metadata",
    "stop_sequences",
    "temperature",
    "service_tier",
    "top_k",
    "top_p",
    "stream",
    "container",
    "inference_geo",
)


@dataclass(frozen=True, slots=True)
class PromptBody:
    """What both endpoints read: whom to ask, what to show it, and what of it cannot be served."""

    model: str
    conversation: Conversation
    refusals: tuple[Refusal, ...]

    def refuse_unserved(self, model_id: str) -> None:
        """Raise `InvalidRequest` for the first thing that the model or this release does not serve."""
        if self.refusals:
            raise InvalidRequest(self.refusals[0](model_id))


@dataclass(frozen=True, slots=True)
class MessagesBody:
    """A checked body of `POST /v1/messages`."""

    prompt: PromptBody
    request: MessagesRequest
    stream: bool


def parse_count_body(body: dict[str, Any], dialect: Dialect) -> PromptBody:
    """The body of count_tokens. Raises `InvalidRequest`."""
    draft = PromptDraft(body, dialect)
    refuse_extras(body, PROMPT_KEYS, "")
    return draft.finish()


def parse_messages_body(body: dict[str, Any], dialect: Dialect) -> MessagesBody:
    """The body of Messages. Raises `InvalidRequest`."""
    draft = PromptDraft(body, dialect)
    max_tokens = _max_tokens(body)
    user_id = read_user_id(body.get("metadata"))
    stop_sequences = read_stop_sequences(body.get("stop_sequences"))
    temperature = read_unit_number(body, "temperature", dialect)
    _service_tier(body)
    top_k = read_top_k(body, dialect)
    top_p = read_unit_number(body, "top_p", dialect)
    stream = a_boolean(body["stream"], "stream") if "stream" in body else False
    _container(body.get("container"), draft.findings)
    _inference_geo(body.get("inference_geo"), draft.findings)
    _refuse_thread(body)
    refuse_extras(body, MESSAGES_KEYS, "")
    prompt = draft.finish()
    if max_tokens == 0:
        _refuse_with_nothing_to_say(prompt.conversation, stream)
    request = MessagesRequest(
        model=prompt.model,
        conversation=prompt.conversation,
        max_tokens=max_tokens,
        stop_sequences=stop_sequences,
        sampling=SamplingParameters(temperature, top_p, top_k) if SAMPLING_KEYS & body.keys() else None,
        user_id=user_id,
        window_overrun_allowed=dialect.window_overrun_allowed,
        may_fall_back=dialect.may_fall_back,
    )
    return MessagesBody(prompt, request, stream)


class PromptDraft:
    """The fields from `model` to `cache_control`, read in order; `finish` checks them together."""

    def __init__(self, body: dict[str, Any], dialect: Dialect) -> None:
        self.findings = Findings(serves_structured_output=dialect.serves_structured_output)
        self._model = read_model(body)
        self._tool_choice = read_tool_choice(body)
        self._tools = read_tools(body["tools"], self.findings) if "tools" in body else ()
        messages_findings = Findings(
            serves_system_turns=dialect.serves_system_turns,
            takes_assistant_documents=dialect.takes_assistant_documents,
            takes_named_files=dialect.takes_named_files,
            users_may_cite=dialect.users_may_cite,
        )
        self._items = read_items(required(body, "messages", ""), messages_findings)
        self._system = read_system(body["system"], self.findings) if "system" in body else ()
        # The checks read messages first, the model reads the system prompt first.
        self.findings.marks += messages_findings.marks
        self.findings.refusals += messages_findings.refusals
        if "thinking" in body:
            _thinking(body["thinking"], self.findings)
        self._output_schema = (
            read_output_config(body["output_config"], self.findings) if "output_config" in body else None
        )
        self._automatic_mark: CacheTtl | None = cache_ttl(body.get("cache_control"), "cache_control")

    def finish(self) -> PromptBody:
        """Check the conversation's shape and the cache marks as a whole."""
        turns = merge_turns(self._items)
        automatic = self._automatic_mark if needs_automatic_mark(turns, self._automatic_mark) else None
        check_marks(self.findings.marks, automatic)
        if automatic:
            turns = with_automatic_mark(turns, automatic)
        refuse_prefill(turns, self._tool_choice, self._output_schema)
        conversation = Conversation(self._system, turns, self._tools, self._tool_choice, self._output_schema)
        refuse_mixed_citations(list(conversation.attachments))
        if conversation.asks_for_citations and self._output_schema is not None:
            refuse("output_config.format", "cannot be combined with citations")
        return PromptBody(self._model, conversation, tuple(self.findings.refusals))


def _thinking(value: object, findings: Findings) -> None:
    thinking = an_object(value, "thinking")
    kind = required(thinking, "type", "thinking")
    if kind == "enabled":
        findings.refusals.append(lambda model: f"'{model}' does not support thinking.")
    elif kind == "adaptive":
        findings.refusals.append(lambda _model: "adaptive thinking is not supported on this model")
    elif kind == "disabled":
        refuse_extras(thinking, ("type",), "thinking.disabled")
    else:
        refuse_tag("thinking", kind, ("adaptive", "disabled", "enabled"))


def _max_tokens(body: dict[str, Any]) -> int:
    max_tokens = an_integer(required(body, "max_tokens", ""), "max_tokens")
    return max_tokens if max_tokens >= 0 else refuse("max_tokens", "must be greater than or equal to 0")


def _refuse_with_nothing_to_say(conversation: Conversation, stream: bool) -> None:
    """What `max_tokens: 0`, which only reads the prompt, cannot be combined with (6.6)."""
    choice = conversation.tool_choice
    conflicts = {
        "stream": stream,
        "output_config.format": conversation.output_schema is not None,
        f"tool_choice.{choice.kind}": choice.is_forced,
    }
    for name, is_there in conflicts.items():
        if is_there:
            raise InvalidRequest(f"max_tokens: 0 cannot be combined with `{name}`")


def _service_tier(body: dict[str, Any]) -> None:
    """Both values mean the standard tier here: there is no other to fall back from."""
    if body.get("service_tier", "auto") not in ("auto", "standard_only"):
        refuse("service_tier", one_of(["auto", "standard_only"]))


def _container(value: object, findings: Findings) -> None:
    if value is not None:
        findings.refusals.append(
            lambda _model: (
                "container: Container identifier can only be provided when using the code execution tool"
            )
        )


def _refuse_thread(body: dict[str, Any]) -> None:
    """The Python SDK's tool runner asks the server to keep the conversation, and does without when told so in this
    code."""
    if "thread" in body:
        raise InvalidRequest(
            "Threads are not supported; send the whole conversation",
            place="thread",
            error_code="thread_unsupported_request",
        )


def _inference_geo(value: object, findings: Findings) -> None:
    if value is None:
        return
    if value not in ("global", "us"):
        refuse("inference_geo", "must be one of ['global', 'us']")
    findings.refusals.append(lambda model: f"inference_geo: '{model}' does not support choosing a region.")
