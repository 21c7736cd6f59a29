"""A reply on its way out in this form: one JSON object, or chunks and `[DONE]` (wire.md section 15)."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from json.encoder import encode_basestring_ascii
from typing import Any

from hokku.api.openai.envelope import error_object
from hokku.api.openai.objects import (
    Object,
    call_id,
    chat_id,
    chat_object,
    completion_id,
    completion_object,
    finish_reason,
    usage_object,
)
from hokku.api.replies import StreamedReply, WholeReply
from hokku.protocol.events import (
    BlockStart,
    BlockStop,
    InputDelta,
    Reply,
    ReplyEnd,
    ReplyEvent,
    ReplyStart,
    TextDelta,
    ToolUseBlock,
)
from hokku.protocol.messages import MessagesRequest
from hokku.service.replies import ReplyStream

DONE = "data: [DONE]\n\n"
_TEXT_STANDS_HERE = "\x00"


class WholeChat(WholeReply):
    """One chat completion."""

    def __init__(
        self, stream: ReplyStream, headers: dict[str, str], asked: MessagesRequest, *, uses_functions: bool
    ) -> None:
        super().__init__(stream, headers, asked)
        self._uses_functions = uses_functions

    def _object(self, reply: Reply) -> dict[str, Any]:
        return chat_object(reply, int(time.time()), uses_functions=self._uses_functions)


class WholeCompletion(WholeReply):
    """One text completion."""

    def __init__(
        self, stream: ReplyStream, headers: dict[str, str], asked: MessagesRequest, *, echoed: str
    ) -> None:
        super().__init__(stream, headers, asked)
        self._echoed = echoed

    def _object(self, reply: Reply) -> dict[str, Any]:
        return completion_object(reply, int(time.time()), self._echoed)


class StreamedChunks(StreamedReply):
    """Chunks that differ in little: what a choice holds is the subclass's, the rest is the same in all of a reply."""

    keep_alive = b": keep-alive\n\n"

    def __init__(
        self,
        stream: ReplyStream,
        headers: dict[str, str],
        asked: MessagesRequest,
        ping_interval_secs: float,
        *,
        include_usage: bool,
    ) -> None:
        super().__init__(stream, headers, asked, ping_interval_secs)
        self._include_usage = include_usage
        self._head: Object = {}
        self._before_text = self._behind_text = ""

    @property
    @abstractmethod
    def _kind(self) -> str:
        """The `object` of a chunk."""

    @abstractmethod
    def _id(self, message_id: str) -> str:
        """The completion's id."""

    @abstractmethod
    def _text_choice(self, text: str) -> Object:
        """What a choice holds that has only text."""

    @abstractmethod
    def _event_frames(self, event: ReplyEvent) -> str:
        """The chunks of an event that is not text."""

    def _frames(self, events: list[ReplyEvent]) -> bytes:
        return "".join(map(self._frames_of, events)).encode()

    def _frames_of(self, event: ReplyEvent) -> str:
        match event:
            case TextDelta(text=text):
                # By far the most frequent chunk: only its text needs escaping.
                return self._before_text + encode_basestring_ascii(text) + self._behind_text
            case ReplyStart(id=message_id, model=model):
                self._start(message_id, model)
                return self._event_frames(event)
            case ReplyEnd(usage=usage):
                last = self._event_frames(event)
                if self._include_usage:
                    last += _frame({**self._head, "choices": [], "usage": usage_object(usage)})
                return last + DONE
        return self._event_frames(event)

    def _start(self, message_id: str, model: str) -> None:
        self._head = {
            "id": self._id(message_id),
            "object": self._kind,
            "created": int(time.time()),
            "model": model,
        }
        escaped = encode_basestring_ascii(_TEXT_STANDS_HERE)
        chunk = self._chunk(self._text_choice(_TEXT_STANDS_HERE))
        self._before_text, _, self._behind_text = chunk.partition(escaped)

    def _chunk(self, choice: Object, reason: str | None = None) -> str:
        whole = {"index": 0, **choice, "logprobs": None, "finish_reason": reason}
        usage: Object = {"usage": None} if self._include_usage else {}
        return _frame({**self._head, "choices": [whole], **usage})

    def _error_frame(self, error: Exception) -> bytes:
        return _frame({"error": error_object(error)}).encode()


class StreamedChat(StreamedChunks):
    """Chunks of a chat completion. Calls are counted from 0, whatever text is between them."""

    _kind = "chat.completion.chunk"

    def __init__(
        self,
        stream: ReplyStream,
        headers: dict[str, str],
        asked: MessagesRequest,
        ping_interval_secs: float,
        *,
        include_usage: bool,
        uses_functions: bool,
    ) -> None:
        super().__init__(stream, headers, asked, ping_interval_secs, include_usage=include_usage)
        self._uses_functions = uses_functions
        self._num_calls = 0
        self._has_input = True  # whether the open block has told something of its input, or has none to tell

    def _id(self, message_id: str) -> str:
        return chat_id(message_id)

    def _text_choice(self, text: str) -> Object:
        return {"delta": {"content": text}}

    def _event_frames(self, event: ReplyEvent) -> str:
        match event:
            case ReplyStart():
                return self._delta({"role": "assistant", "content": "", "refusal": None})
            case BlockStart(block=ToolUseBlock(id=tool_use_id, name=name)):
                self._num_calls += 1
                self._has_input = False
                return self._call_delta({"name": name, "arguments": ""}, call_id(tool_use_id))
            case InputDelta(json=text):
                self._has_input = self._has_input or bool(text)
                return self._call_delta({"arguments": text})
            case BlockStop() if not self._has_input:
                self._has_input = True
                return self._call_delta({"arguments": "{}"})
            case ReplyEnd(stop_reason=reason):
                said = finish_reason(reason, uses_functions=self._uses_functions)
                return self._chunk({"delta": {}}, said)
        return ""

    def _call_delta(self, function: Object, new_id: str | None = None) -> str:
        if self._uses_functions:
            return self._delta({"function_call": function})
        begun = {} if new_id is None else {"id": new_id, "type": "function"}
        call = {"index": self._num_calls - 1, **begun, "function": function}
        return self._delta({"tool_calls": [call]})

    def _delta(self, delta: Object) -> str:
        return self._chunk({"delta": delta})


class StreamedCompletion(StreamedChunks):
    """Chunks of a text completion; the first has what is echoed, if anything is."""

    _kind = "text_completion"

    def __init__(
        self,
        stream: ReplyStream,
        headers: dict[str, str],
        asked: MessagesRequest,
        ping_interval_secs: float,
        *,
        include_usage: bool,
        echoed: str,
    ) -> None:
        super().__init__(stream, headers, asked, ping_interval_secs, include_usage=include_usage)
        self._echoed = echoed

    def _id(self, message_id: str) -> str:
        return completion_id(message_id)

    def _text_choice(self, text: str) -> Object:
        return {"text": text}

    def _event_frames(self, event: ReplyEvent) -> str:
        match event:
            case ReplyStart() if self._echoed:
                return self._chunk(self._text_choice(self._echoed))
            case ReplyEnd(stop_reason=reason):
                return self._chunk(self._text_choice(""), finish_reason(reason, uses_functions=False))
        return ""


def _frame(value: Object) -> str:
    """One server-sent event. Escaped to ASCII: some clients take U+2028 inside JSON for the end of a line."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
