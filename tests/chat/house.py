"""Small tokenizers and conversations for this folder's tests; no model file needed."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hokku.chat.codec import Codec
from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.chat.spec import ControlToken, TokenizerSpec
from hokku.chat.template import CHATML
from hokku.chat.tokenizer import Tokenizer
from hokku.protocol.messages import Conversation, Role, TextPart, Turn

GOLDENS = Path(__file__).parent / "goldens"


@cache
def golden(name: str) -> Any:
    return json.loads((GOLDENS / name).read_text())


@cache
def byte_level_spec(pre: str = "smollm", template: str = CHATML) -> TokenizerSpec:
    extra = {"tokenizer.ggml.pre": pre, "tokenizer.chat_template": template}
    return spec_from_gguf(golden("byte_level.json")["metadata"] | extra)


@cache
def sentencepiece_spec(template: str = CHATML) -> TokenizerSpec:
    return spec_from_gguf(golden("sentencepiece.json")["metadata"] | {"tokenizer.chat_template": template})


@cache
def codec(template: str = CHATML) -> Codec:
    return Codec.from_spec(byte_level_spec(template=template))


def with_control(spec: TokenizerSpec, *texts: str) -> TokenizerSpec:
    """`spec` with more control tokens, as families name them."""
    more = tuple(ControlToken(text, 100_000 + place) for place, text in enumerate(texts))
    return replace(spec, control_tokens=spec.control_tokens + more)


def conversation(*texts: str, system: str = "") -> Conversation:
    """A conversation whose turns alternate, the user's first."""
    roles: tuple[Role, Role] = ("user", "assistant")
    turns = tuple(Turn(roles[place % 2], (TextPart(text),)) for place, text in enumerate(texts))
    return Conversation((TextPart(system),) if system else (), turns)


def shown(tokenizer: Tokenizer, token_ids: list[int]) -> str:
    """Text of token ids with the control tokens written out."""
    by_id = {token.id: token.text for token in tokenizer.spec.control_tokens}
    pieces = (by_id[i].encode() if i in by_id else tokenizer.token_bytes(i) for i in token_ids)
    return b"".join(pieces).decode()
