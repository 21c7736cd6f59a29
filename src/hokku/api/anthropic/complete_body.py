"""The body of the legacy Text Completions endpoint, read as a conversation (wire.md section 9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hokku.api.anthropic.dialect import Dialect
from hokku.api.anthropic.fields import a_boolean, a_string, an_integer, refuse, refuse_extras, required
from hokku.api.anthropic.parameters import (
    SAMPLING_KEYS,
    read_model,
    read_stop_sequences,
    read_top_k,
    read_unit_number,
    read_user_id,
)
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Conversation, MessagesRequest, Role, SamplingParameters, TextPart, Turn

COMPLETE_KEYS = (
    "model",
    "prompt",
    "max_tokens_to_sample",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "stream",
)
HUMAN = "\n\nHuman:"
_MARK = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class CompleteBody:
    """A checked body of `POST /v1/complete`."""

    request: MessagesRequest
    stream: bool


def parse_complete_body(body: dict[str, Any], dialect: Dialect) -> CompleteBody:
    """The same request as Messages would have it. Raises `InvalidRequest`."""
    model = read_model(body)
    turns = turns_of(a_string(required(body, "prompt", ""), "prompt"))
    max_tokens = an_integer(required(body, "max_tokens_to_sample", ""), "max_tokens_to_sample")
    if max_tokens < 1:
        refuse("max_tokens_to_sample", "must be greater than or equal to 1")
    stop_sequences = read_stop_sequences(body.get("stop_sequences"))
    temperature = read_unit_number(body, "temperature", dialect)
    top_p = read_unit_number(body, "top_p", dialect)
    top_k = read_top_k(body, dialect)
    user_id = read_user_id(body.get("metadata"))
    stream = a_boolean(body["stream"], "stream") if "stream" in body else False
    refuse_extras(body, COMPLETE_KEYS, "")
    request = MessagesRequest(
        model=model,
        conversation=Conversation((), turns),
        max_tokens=max_tokens,
        stop_sequences=(*stop_sequences, HUMAN),
        sampling=SamplingParameters(temperature, top_p, top_k) if SAMPLING_KEYS & body.keys() else None,
        user_id=user_id,
        may_fall_back=dialect.may_fall_back,
    )
    return CompleteBody(request, stream)


def refuse_where_hosted(model_id: str, dialect: Dialect) -> None:
    """The hosted service never served this model here."""
    if dialect.compatibility is Compatibility.HOSTED:
        raise InvalidRequest(
            f'"{model_id}" is not supported on this API. Please use the Messages API instead.'
        )


def turns_of(prompt: str) -> tuple[Turn, ...]:
    """The turns that `\\n\\nHuman:` and `\\n\\nAssistant:` mark; the last one is the reply's beginning, if it has any.

    Raises:
        InvalidRequest: it does not begin with a human's turn, or end with the assistant's.
    """
    if not prompt.startswith(HUMAN):
        raise InvalidRequest(f'prompt must start with "{_shown(HUMAN)}" turn')
    spoken = [
        (role, "\n\n".join(text for _, text in said if text))
        for role, said in groupby(_spoken(prompt), key=lambda each: each[0])
    ]
    if spoken[-1][0] != "assistant":
        raise InvalidRequest('prompt must end with "\\n\\nAssistant:" turn')
    if any(not text for _, text in spoken[:-1]):
        refuse("prompt", "every turn but the last must have text")
    last = spoken if spoken[-1][1] else spoken[:-1]
    return tuple(Turn(role, (TextPart(text),)) for role, text in last)


def _spoken(prompt: str) -> Iterator[tuple[Role, str]]:
    marks = list(_MARK.finditer(prompt))
    ends = [mark.start() for mark in marks[1:]] + [len(prompt)]
    for mark, end in zip(marks, ends, strict=True):
        yield _ROLES[mark[1]], prompt[mark.end() : end].strip()


def _shown(text: str) -> str:
    return text.replace("\n", "\\n")
