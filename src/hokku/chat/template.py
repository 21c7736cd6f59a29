"""Chat templates: a conversation rendered to the text a model was trained on, with people's text kept apart.

Templates are Jinja programs from the model's file, in the dialect that Hugging Face's documentation ("Chat
templates") defines. They run metered (`sandbox`), and people's text goes through them in an alphabet of its
own (`typed`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

import jinja2

from hokku.chat.formats.base import ToolFormat
from hokku.chat.formats.choice import native_format
from hokku.chat.formats.plain import PLAIN, as_text
from hokku.chat.messages import (
    Message,
    as_items,
    num_characters,
    template_messages,
    template_tools,
    text_of,
    typed_value,
)
from hokku.chat.sandbox import Meter, MeteredEnvironment
from hokku.chat.typed import BLOCK_MARKS, END_OF_PREFILL, PICTURE_MARKS, TypedAlphabet, TypedText
from hokku.protocol.errors import BadModelFile, InvalidRequest
from hokku.protocol.messages import Conversation, TextPart, Turn

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")

_PLACE = "chat template"
_FILENAME = "<template>"  # what Jinja calls a template made from a string
_LARGEST_SOURCE = 128 * 1024  # the longest known templates have some 20 KB
_BASE_BUDGET = 16 * 1024 * 1024  # characters copied; an iteration costs 256
_BUDGET_PER_CHARACTER = 32  # templates copy each message a handful of times
_BUDGET_PER_MESSAGE = 32 * 1024  # and take some dozen steps for it


class _RefusalError(Exception):
    """The template called `raise_exception`."""


class ChatTemplate:
    """A compiled template. `tool_format` is how its model calls tools.

    Args:
        place_holder: what the template writes where a picture is, if it knows pictures.

    Raises:
        BadModelFile: not a template, too large, or it cannot render a simple conversation.
    """

    def __init__(
        self,
        source: str,
        alphabet: TypedAlphabet,
        *,
        bos: str = "",
        eos: str = "",
        place_holder: str | None = None,
    ) -> None:
        if len(source) > _LARGEST_SOURCE:
            raise BadModelFile(f"is longer than {_LARGEST_SOURCE} characters", place=_PLACE)
        self._alphabet = alphabet
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._lock = threading.Lock()  # one meter, so one rendering at a time; each takes about a millisecond
        self._environment = MeteredEnvironment(_BASE_BUDGET, alphabet.recognized)
        self._environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self._environment.filters["tojson"] = self._to_json
        self._place_holder = place_holder if place_holder and place_holder in source else None
        self._template = self._compile(source)
        self._shows_system = self._probe()
        self._native = native_format(self._probed) if "tools" in source else None
        self.tool_format = self._native or PLAIN

    def render(self, conversation: Conversation) -> str:
        """The prompt's text, ready for `Tokenizer.encode_rendered`: it ends where the reply begins.

        A final assistant turn is left open: the text ends with the turn's own, and what the template would
        write after it is cut off.

        Raises:
            InvalidRequest: the template refuses such a conversation, in its words.
            BadModelFile: the template fails, with its line.
        """
        return self._render(conversation, self._alphabet)

    def render_with_pictures(self, conversation: Conversation) -> str:
        """As `render`, for a conversation in whose text the marks of pictures are meant: each stays, or comes where the
        template has written its place-holder. Raises like `render`."""
        return self._render(conversation, self._alphabet.meaning(PICTURE_MARKS))

    def render_marked(self, conversation: Conversation, *, has_pictures: bool = False) -> str:
        """As `render` or `render_with_pictures`, for a conversation in whose text the marks of `borders.py` are meant
        too: they stay where they are, as far as the template shows them. Raises like `render`."""
        meant = (BLOCK_MARKS, PICTURE_MARKS) if has_pictures else (BLOCK_MARKS,)
        return self._render(conversation, self._alphabet.meaning(*meant))

    def _render(self, conversation: Conversation, alphabet: TypedAlphabet) -> str:
        if self._native is None:
            conversation = as_text(conversation)
        if conversation.system and not self._shows_system:
            conversation = _with_system_in_first_turn(conversation)
        prefill = prefill_of(conversation)
        if prefill:
            return self._render_open(conversation, prefill, alphabet)
        return self._render_closed(conversation, self.tool_format, alphabet)

    def _render_closed(
        self, conversation: Conversation, tool_format: ToolFormat, alphabet: TypedAlphabet
    ) -> str:
        last = len(conversation.turns) - 1
        turns = tuple(t for place, t in enumerate(conversation.turns) if t.role == "user" or place < last)
        messages = self._messages(replace(conversation, turns=turns), tool_format, alphabet)
        return self._run(messages, conversation, add_generation_prompt=True)

    def _render_open(self, conversation: Conversation, prefill: str, alphabet: TypedAlphabet) -> str:
        messages = self._messages(conversation, self.tool_format, alphabet)
        messages[-1]["content"] = self._content(alphabet.typed_prefill(prefill))
        text, mark, _ = self._run(messages, conversation, add_generation_prompt=False).partition(
            END_OF_PREFILL
        )
        if mark:
            return text
        # The template does not show a last assistant turn as it is: open the reply and write it there
        # ourselves.
        return self._render_closed(conversation, self.tool_format, alphabet) + alphabet.typed(prefill)

    def _run(
        self, messages: list[Message], conversation: Conversation, *, add_generation_prompt: bool
    ) -> str:
        tools = typed_value(template_tools(conversation.shown_tools), self._alphabet)
        budget = _BASE_BUDGET + _BUDGET_PER_MESSAGE * (len(messages) + len(conversation.tools))
        budget += _BUDGET_PER_CHARACTER * num_characters([messages, tools])
        try:
            with self._lock:
                self._environment.meter = Meter(budget)
                rendered = self._template.render(
                    messages=messages,
                    tools=tools,
                    add_generation_prompt=add_generation_prompt,
                    enable_thinking=False,  # the models whose place Hokku takes answer at once
                    **self._tokens,
                )
        except _RefusalError as refusal:
            raise InvalidRequest(f"the model's chat template refuses this: {refusal}") from refusal
        except Exception as cause:  # foreign code: it may fail in any way
            raise _bad_template(cause) from cause
        return self._with_pictures(rendered, messages) if self._place_holder else rendered

    def _with_pictures(self, rendered: str, messages: Sequence[Message]) -> str:
        """The marks of pictures where the template has written its place-holder, in order."""
        items = (item for message in messages for item in message["content"])
        marks = (item["image"] for item in items if item["type"] == "image")
        return re.sub(re.escape(self._place_holder or ""), lambda _: next(marks, ""), rendered)

    def _messages(
        self, conversation: Conversation, tool_format: ToolFormat, alphabet: TypedAlphabet
    ) -> list[Message]:
        messages = template_messages(conversation, tool_format)
        if self._place_holder:
            messages = [as_items(message) for message in messages]
        return [typed_value(message, alphabet) for message in messages]

    def _content(self, text: TypedText) -> TypedText | list[Message]:
        return [{"type": "text", "text": text}] if self._place_holder else text

    def _compile(self, source: str) -> jinja2.Template:
        try:
            return self._environment.from_string(source)
        except Exception as cause:  # syntax errors, but also recursion and overflows while folding constants
            raise _bad_template(cause) from cause

    def _probe(self) -> bool:
        """Render a simple conversation, so that a broken template shows at start-up.

        Returns whether the template shows a system prompt; some refuse one or leave it out.
        """
        question = Turn("user", (TextPart("?"),))
        system = TextPart("system prompt")
        try:
            shown = self._probed(Conversation((system,), (question,)), PLAIN)
        except (BadModelFile, InvalidRequest):
            shown = ""
        if system.text in shown:
            return True
        self._probed(Conversation((), (question,)), PLAIN)
        return False

    def _probed(self, conversation: Conversation, tool_format: ToolFormat) -> str:
        return self._alphabet.plain(self._render_closed(conversation, tool_format, self._alphabet))

    def _to_json(self, value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        """As chat templates define it: plain JSON, not escaped for HTML, other scripts left readable."""
        indent = None if indent is None else min(indent, 8)
        text = json.dumps(self._as_written(value), ensure_ascii=ensure_ascii, indent=indent)
        return self._alphabet.shifted(text) if _has_typed(value) else text

    def _as_written(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._alphabet.plain(value)
        if isinstance(value, Mapping):
            return {self._as_written(name): self._as_written(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._as_written(inner) for inner in value]
        return value


def prefill_of(conversation: Conversation) -> str:
    """The text of a final assistant turn, which the reply continues; "" where there is none."""
    last = conversation.turns[-1]
    return text_of(last.parts) if last.role == "assistant" else ""


def _with_system_in_first_turn(conversation: Conversation) -> Conversation:
    first, *others = conversation.turns
    turns = (Turn(first.role, (*conversation.system, *first.parts)), *others)
    return replace(conversation, system=(), turns=turns)


def _has_typed(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_typed(name) or _has_typed(inner) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return any(map(_has_typed, value))
    return isinstance(value, TypedText)


def _raise_exception(message: object) -> None:
    raise _RefusalError(str(message))


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _bad_template(cause: Exception) -> BadModelFile:
    line = getattr(cause, "lineno", None) or _line_of(cause.__traceback__)
    message = str(cause) or type(cause).__name__
    return BadModelFile(message, place=f"{_PLACE}, line {line}" if line else _PLACE)


def _line_of(traceback: TracebackType | None) -> int | None:
    """The template's line in a traceback, which Jinja rewrites to name the template's own lines."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _FILENAME:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
