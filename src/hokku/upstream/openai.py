"""Services that speak the OpenAI Chat Completions API: requests and replies in its words, as far as it has them.

The form has no cache marks; they only save work, so they are left out. What else it has no words for is refused by
name: `top_k`, files other than images, citations, images in results of tools, and the first words of a reply.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence

from hokku.protocol.errors import UpstreamFailed
from hokku.protocol.events import ReplyEvent, StopReason, Usage
from hokku.protocol.messages import (
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    MessagesRequest,
    Part,
    SearchResultPart,
    StoredFile,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
    ToolUsePart,
    Turn,
    UrlFile,
)
from hokku.upstream.config import HttpRequest, UpstreamConfig, changed_sampling
from hokku.upstream.fields import (
    Json,
    count_in,
    id_in,
    index_in,
    list_in,
    model_in,
    object_in,
    object_of,
    text_in,
)
from hokku.upstream.form import unsayable
from hokku.upstream.refusals import refusal_in_stream
from hokku.upstream.sse import ServerEvent
from hokku.upstream.writer import ReplyWriter

_END = "[DONE]"
_BLOCK_BREAK = "\n\n"  # between the blocks of one turn, which clients mean as separate paragraphs
_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
}


class OpenAiForm:
    """A `Form`."""

    def http_request(self, request: MessagesRequest, config: UpstreamConfig) -> HttpRequest:
        """See `Form`."""
        headers = {} if config.key is None else {"authorization": f"Bearer {config.key}"}
        return HttpRequest("/chat/completions", headers, chat_body(request, config))

    def reader(self, request: MessagesRequest, config: UpstreamConfig) -> OpenAiReader:
        """See `Form`."""
        return OpenAiReader(config, request.stop_sequences)


def chat_body(request: MessagesRequest, config: UpstreamConfig) -> Json:
    """The body of `POST /chat/completions`. Raises `InvalidRequest`."""
    conversation = request.conversation
    if conversation.is_plain:
        raise unsayable("prompt", "a text without a conversation")
    if conversation.turns[-1].role == "assistant":
        raise unsayable("messages", "a final assistant message, which the reply is to continue")
    sampling = changed_sampling(request)
    if "top_k" in sampling:
        raise unsayable("top_k", "top_k")
    body: Json = {
        "model": config.model,
        config.output_limit_key: request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": _messages(conversation),
        **sampling,
    }
    if request.stop_sequences:
        body["stop"] = list(request.stop_sequences)
    if request.user_id is not None:
        body["user"] = request.user_id
    if request.seed is not None:
        body["seed"] = request.seed
    return body | _tool_fields(conversation) | _output_fields(conversation)


def _messages(conversation: Conversation) -> list[Json]:
    messages: list[Json] = []
    if conversation.system:
        messages.append({"role": "system", "content": _prose(conversation.system)})
    for turn in conversation.turns:
        messages += _user_messages(turn) if turn.role == "user" else [_assistant_message(turn)]
    return messages


def _user_messages(turn: Turn) -> list[Json]:
    """Results of calls, which are messages of their own and stand behind the calls; then what was said."""
    results = [_result_message(part) for part in turn.parts if isinstance(part, ToolResultPart)]
    said = [part for part in turn.parts if not isinstance(part, ToolResultPart)]
    if not said:
        return results
    if all(isinstance(part, TextPart) for part in said):
        return [*results, {"role": "user", "content": _prose(said)}]
    return [*results, {"role": "user", "content": [_content_part(part) for part in said]}]


def _result_message(result: ToolResultPart) -> Json:
    for part in result.parts:
        if isinstance(part, ImagePart):
            raise unsayable(part.place, "images in results of tools")
        _refuse_documents(part)
    text = _prose(result.parts)
    content = f"Error: {text}" if result.is_error else text
    return {"role": "tool", "tool_call_id": result.tool_use_id, "content": content}


def _content_part(part: Part) -> Json:
    _refuse_documents(part)
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if not isinstance(part, ImagePart):
        raise unsayable("messages", "calls in a user's turn")
    if not part.may_shrink:
        raise unsayable(part.place, "images that may not be made smaller")
    return {"type": "image_url", "image_url": {"url": _image_url(part)}}


def _image_url(image: ImagePart) -> str:
    match image.source:
        case InlineFile(media_type=media_type, data=data):
            return f"data:{media_type};base64,{b64encode(data).decode()}"
        case UrlFile(url=url):
            return url
        case StoredFile():
            raise unsayable(image.place, "a file of this server")


def _assistant_message(turn: Turn) -> Json:
    calls = [_call(part) for part in turn.parts if isinstance(part, ToolUsePart)]
    text = _prose(turn.parts)
    return {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}


def _call(call: ToolUsePart) -> Json:
    function = {"name": call.name, "arguments": json.dumps(dict(call.input), ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}


def _prose(parts: Sequence[Part]) -> str:
    texts = [part for part in parts if isinstance(part, TextPart)]
    joined = (part.text if part.continues else _BLOCK_BREAK + part.text for part in texts[1:])
    return "".join((*(part.text for part in texts[:1]), *joined))


def _refuse_documents(part: Part) -> None:
    if isinstance(part, DocumentPart):
        raise unsayable(part.place, "documents")
    if isinstance(part, SearchResultPart):
        raise unsayable("messages", "search results")


def _tool_fields(conversation: Conversation) -> Json:
    if not conversation.tools:
        return {}
    choice = conversation.tool_choice
    fields: Json = {"tools": [_tool(tool) for tool in conversation.tools], "tool_choice": _choice(choice)}
    if not choice.is_parallel and choice.kind != "none":
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Tool) -> Json:
    described: Json = {"description": tool.description} if tool.description else {}
    strict: Json = {"strict": True} if tool.is_strict else {}
    function = {"name": tool.name, **described, "parameters": dict(tool.input_schema), **strict}
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | Json:
    match choice.kind:
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": choice.name}}
        case kind:
            return kind


def _output_fields(conversation: Conversation) -> Json:
    if conversation.output_schema is None:
        return {}
    schema = {"name": "reply", "schema": dict(conversation.output_schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


class OpenAiReader:
    """A `ReplyReader`.

    Args:
        config: whom was asked.
        stop_sequences: what was asked for; some services say which of them they met.
    """

    def __init__(self, config: UpstreamConfig, stop_sequences: tuple[str, ...]) -> None:
        self._config = config
        self._stop_sequences = stop_sequences
        self._writer = ReplyWriter()
        self._usage = Usage(0, 1)  # nothing is said before the end
        self._has_refused = False
        self._call: tuple[int | None, str] | None = None  # place and id of the open call
        self._stop: tuple[StopReason, str | None] | None = None

    @property
    def has_ended(self) -> bool:
        """See `ReplyReader`."""
        return self._writer.has_ended

    def read(self, event: ServerEvent) -> list[ReplyEvent]:
        """See `ReplyReader`."""
        if event.data.strip() == _END:
            return self.finish()
        chunk = object_of(event.data)
        if chunk.get("error"):
            raise refusal_in_stream(chunk["error"], self._config.key)
        events = [] if self._writer.has_started else self._start(chunk)
        for choice in list_in(chunk, "choices"):
            if isinstance(choice, dict) and not index_in(choice, "index"):
                events += self._choice(choice)
        if usage := object_in(chunk, "usage"):
            self._usage = _usage(usage)
        return events

    def finish(self) -> list[ReplyEvent]:
        """See `ReplyReader`."""
        if self._stop is None:
            raise UpstreamFailed("the service broke off its reply")
        return self._writer.end(*self._stop, self._usage)

    def _start(self, chunk: Json) -> list[ReplyEvent]:
        model = model_in(chunk, self._config.model)
        return self._writer.start(id_in(chunk, "msg_"), model, self._usage)

    def _choice(self, choice: Json) -> list[ReplyEvent]:
        delta = object_in(choice, "delta")
        events: list[ReplyEvent] = []
        refused = text_in(delta, "refusal")  # in the model's words, instead of content
        self._has_refused |= bool(refused)
        if text := text_in(delta, "content") + refused:
            self._call = None
            events += self._writer.text(text)
        for call in list_in(delta, "tool_calls"):
            if isinstance(call, dict):
                events += self._call_part(call)
        if reason := text_in(choice, "finish_reason"):
            self._stop = self._stopped(reason, choice)
        return events

    def _call_part(self, part: Json) -> list[ReplyEvent]:
        function = object_in(part, "function")
        name, events = text_in(function, "name"), list[ReplyEvent]()
        if self._begins_call(part, name):
            self._call = index_in(part, "index"), text_in(part, "id")
            events += self._writer.open_call(id_in(part, "toolu_"), name)
        elif self._call is not None and index_in(part, "index") not in (None, self._call[0]):
            raise UpstreamFailed("the service went back to a call that it had left")
        if arguments := text_in(function, "arguments"):
            events += self._writer.call_input(arguments)
        return events

    def _begins_call(self, part: Json, name: str) -> bool:
        """Some services repeat the name with every part, and some count every call as the first."""
        if not name or self._call is None:
            return bool(name)
        index, call_id = index_in(part, "index"), text_in(part, "id")
        return index != self._call[0] or call_id not in ("", self._call[1])

    def _stopped(self, reason: str, choice: Json) -> tuple[StopReason, str | None]:
        if self._has_refused:
            return "refusal", None
        if self._writer.num_calls and reason not in ("length", "content_filter"):
            return "tool_use", None
        met = text_in(choice, "stop_reason")  # vLLM's word
        if reason == "stop" and met in self._stop_sequences:
            return "stop_sequence", met
        return _STOP_REASONS.get(reason, "end_turn"), None


def _usage(said: Json) -> Usage:
    prompt = count_in(said, "prompt_tokens")
    cached = min(prompt, count_in(object_in(said, "prompt_tokens_details"), "cached_tokens"))
    return Usage(prompt - cached, count_in(said, "completion_tokens"), cache_read_tokens=cached)
