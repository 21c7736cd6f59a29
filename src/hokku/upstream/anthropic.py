"""Services that speak the Messages API: requests in its words, replies out of its events (wire.md sections 2, 3)."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import cast, get_args

from hokku.protocol.errors import InvalidRequest, UpstreamFailed
from hokku.protocol.events import ReplyEvent, StopReason, Usage
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    FileSource,
    ImagePart,
    InlineFile,
    MessagesRequest,
    Part,
    PdfFile,
    PlainText,
    SearchResultPart,
    StoredFile,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
    ToolUsePart,
    UrlFile,
)
from hokku.upstream.citations import citation_of
from hokku.upstream.config import HttpRequest, UpstreamConfig, changed_sampling
from hokku.upstream.fields import Json, count_in, id_in, index_in, model_in, object_in, object_of, text_in
from hokku.upstream.form import unsayable
from hokku.upstream.refusals import refusal_in_stream
from hokku.upstream.sse import ServerEvent
from hokku.upstream.writer import ReplyWriter

_VERSION = "2023-06-01"  # the one that takes sampling parameters, citations and prefills as clients of ours send them
_WINDOW_OVERRUN_BETA = "model-context-window-exceeded-2025-08-26"
_LONG_SECS = 3_600
_STOP_REASONS = frozenset(get_args(StopReason))
_TIERS = frozenset({"standard", "priority", "batch"})


class AnthropicForm:
    """A `Form`."""

    def http_request(self, request: MessagesRequest, config: UpstreamConfig) -> HttpRequest:
        """See `Form`. Files that were uploaded here are unknown there, and refused."""
        headers = {"anthropic-version": _VERSION}
        if config.key is not None:
            headers["x-api-key"] = config.key
        if request.window_overrun_allowed:
            headers["anthropic-beta"] = _WINDOW_OVERRUN_BETA
        return HttpRequest("/v1/messages", headers, messages_body(request, config.model))

    def reader(self, request: MessagesRequest, config: UpstreamConfig) -> AnthropicReader:
        """See `Form`."""
        return AnthropicReader(config)


def messages_body(request: MessagesRequest, model: str) -> Json:
    """The body of `POST /v1/messages`. Raises `InvalidRequest`."""
    conversation = request.conversation
    if conversation.is_plain:
        raise unsayable("prompt", "a text without a conversation")
    if request.seed is not None:
        raise unsayable("seed", "a seed")
    body: Json = {
        "model": model,
        "max_tokens": request.max_tokens,
        "stream": True,
        "messages": [
            {"role": turn.role, "content": [_block(part) for part in turn.parts]}
            for turn in conversation.turns
        ],
        **changed_sampling(request),
    }
    if conversation.system:
        body["system"] = [_block(part) for part in conversation.system]
    if request.stop_sequences:
        body["stop_sequences"] = list(request.stop_sequences)
    if request.user_id is not None:
        body["metadata"] = {"user_id": request.user_id}
    return body | _tool_fields(conversation) | _output_fields(conversation)


def _tool_fields(conversation: Conversation) -> Json:
    if not conversation.tools:
        return {}
    fields: Json = {"tools": [_tool(tool) for tool in conversation.tools]}
    if conversation.tool_choice != ToolChoice():
        fields["tool_choice"] = _tool_choice(conversation.tool_choice)
    return fields


def _tool(tool: Tool) -> Json:
    described: Json = {"description": tool.description} if tool.description else {}
    strict: Json = {"strict": True} if tool.is_strict else {}
    return {
        "name": tool.name,
        **described,
        "input_schema": dict(tool.input_schema),
        **strict,
        **_mark(tool.cache_secs),
    }


def _tool_choice(choice: ToolChoice) -> Json:
    named: Json = {"name": choice.name} if choice.kind == "tool" else {}
    alone: Json = {} if choice.is_parallel or choice.kind == "none" else {"disable_parallel_tool_use": True}
    return {"type": choice.kind, **named, **alone}


def _output_fields(conversation: Conversation) -> Json:
    if conversation.output_schema is None:
        return {}
    return {"output_config": {"format": {"type": "json_schema", "schema": dict(conversation.output_schema)}}}


def _mark(cache_secs: int | None) -> Json:
    if cache_secs is None:
        return {}
    ttl: Json = {"ttl": "1h"} if cache_secs >= _LONG_SECS else {}
    return {"cache_control": {"type": "ephemeral", **ttl}}


def _block(part: Part) -> Json:
    return _unmarked_block(part) | _mark(part.cache_secs)


def _unmarked_block(part: Part) -> Json:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ToolUsePart():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": dict(part.input)}
        case ToolResultPart():
            failed: Json = {"is_error": True} if part.is_error else {}
            content = [_block(inner) for inner in part.parts]
            return {"type": "tool_result", "tool_use_id": part.tool_use_id, "content": content, **failed}
        case ImagePart(source=source):
            whole: Json = {} if part.may_shrink else {"transformations": {"oversized_image": "error"}}
            return {"type": "image", "source": _file(source), **whole}
        case DocumentPart():
            named = {name: text for name in ("title", "context") if (text := getattr(part, name)) is not None}
            return {"type": "document", "source": _document(part), **named, **_citations(part.is_cited)}
        case SearchResultPart():
            found = {"source": part.source, "title": part.title}
            content = [_block(inner) for inner in part.parts]
            return {"type": "search_result", **found, "content": content, **_citations(part.is_cited)}


def _citations(is_cited: bool) -> Json:
    return {"citations": {"enabled": True}} if is_cited else {}


def _document(part: DocumentPart) -> Json:
    match part.body:
        case PlainText(text=text):
            return {"type": "text", "media_type": "text/plain", "data": text}
        case PdfFile(source=source):
            return _file(source)
        case ContentBlocks(parts=parts):
            return {"type": "content", "content": [_block(inner) for inner in parts]}


def _file(source: FileSource) -> Json:
    match source:
        case InlineFile():
            data = b64encode(source.data).decode()
            return {"type": "base64", "media_type": source.media_type, "data": data}
        case UrlFile(url=url):
            return {"type": "url", "url": url}
        case StoredFile():
            raise InvalidRequest(
                "a file of this server is unknown to the service that answers in the model's place",
                place=source.place,
            )


class AnthropicReader:
    """A `ReplyReader`. Blocks of kinds that requests of ours cannot ask for, thoughts among them, are passed over."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._writer = ReplyWriter()
        self._usage = Usage(0, 0)
        self._index: int | None = None  # of the service's open block
        self._is_shown = False  # whether that block is one of the reply's
        self._stop: tuple[StopReason, str | None] | None = None

    @property
    def has_ended(self) -> bool:
        """See `ReplyReader`."""
        return self._writer.has_ended

    def read(self, event: ServerEvent) -> list[ReplyEvent]:
        """See `ReplyReader`. Events of other names are passed over, as the API asks its clients to do."""
        data = object_of(event.data)
        match text_in(data, "type"):
            case "message_start":
                return self._start(object_in(data, "message"))
            case "content_block_start":
                return self._open(data)
            case "content_block_delta":
                return self._delta(data)
            case "content_block_stop":
                self._index = None
                return self._writer.close() if self._is_shown else []
            case "message_delta":
                self._note_end(data)
            case "message_stop":
                return self.finish()
            case "error":
                raise refusal_in_stream(data.get("error"), self._config.key)
        return []

    def finish(self) -> list[ReplyEvent]:
        """See `ReplyReader`."""
        if self._stop is None:
            raise UpstreamFailed("the service broke off its reply")
        return self._writer.end(*self._stop, self._usage)

    def _start(self, message: Json) -> list[ReplyEvent]:
        self._usage = _usage(object_in(message, "usage"), Usage(0, 1))
        model = model_in(message, self._config.model)
        return self._writer.start(id_in(message, "msg_"), model, self._usage)

    def _open(self, data: Json) -> list[ReplyEvent]:
        if self._index is not None:
            raise UpstreamFailed("the service began a block inside another")
        self._index = index_in(data, "index")
        block = object_in(data, "content_block")
        kind = text_in(block, "type")
        self._is_shown = kind in ("text", "tool_use")
        if kind == "text":
            text = text_in(block, "text")  # some say it here
            return [*self._writer.open_text(), *(self._writer.text(text) if text else [])]
        if kind == "tool_use":
            return self._writer.open_call(id_in(block, "toolu_"), text_in(block, "name"))
        return []

    def _delta(self, data: Json) -> list[ReplyEvent]:
        if self._index is None or index_in(data, "index") != self._index:
            raise UpstreamFailed("the service sent a part of a block that is not open")
        delta = object_in(data, "delta")
        if not self._is_shown:
            return []
        match text_in(delta, "type"):
            case "text_delta":
                return self._writer.text(text_in(delta, "text"))
            case "input_json_delta":
                return self._writer.call_input(text_in(delta, "partial_json"))
            case "citations_delta":
                citation = citation_of(object_in(delta, "citation"))
                return self._writer.cite(citation) if citation else []
        return []

    def _note_end(self, data: Json) -> None:
        self._usage = _usage(object_in(data, "usage"), self._usage)
        delta = object_in(data, "delta")
        reason = text_in(delta, "stop_reason")
        if reason:
            known = cast(StopReason, reason if reason in _STOP_REASONS else "end_turn")
            self._stop = known, text_in(delta, "stop_sequence") or None


def _usage(said: Json, before: Usage) -> Usage:
    """What a `usage` object says; what it leaves out is as `before`."""
    usage = before
    if index_in(said, "input_tokens") is not None:
        usage = replace(usage, input_tokens=count_in(said, "input_tokens"))
    if index_in(said, "output_tokens") is not None:
        usage = replace(usage, output_tokens=count_in(said, "output_tokens"))
    if index_in(said, "cache_read_input_tokens") is not None:
        usage = replace(usage, cache_read_tokens=count_in(said, "cache_read_input_tokens"))
    if index_in(said, "cache_creation_input_tokens") is not None:
        written = count_in(said, "cache_creation_input_tokens")
        long = min(written, count_in(object_in(said, "cache_creation"), "ephemeral_1h_input_tokens"))
        usage = replace(usage, cache_write_5m_tokens=written - long, cache_write_1h_tokens=long)
    tier = text_in(said, "service_tier")
    return replace(usage, service_tier=tier) if tier in _TIERS else usage
