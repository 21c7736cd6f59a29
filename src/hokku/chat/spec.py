"""`TokenizerSpec`: all that the chat room needs of a model, as one value that travels inside the packed
model file.

It is made once from a checkpoint (`gguf_vocab`, `hf_vocab`) and read at every start, so that starting a
server touches neither the GGUF's vocabulary nor its merges again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hokku.protocol.errors import BadModelFile

# How a vocabulary writes bytes: GPT-2's 256 printable stand-ins, or "▁" for a space and <0x0A> for a lone
# byte.
Encoding = Literal["byte_level", "sentencepiece"]
# Where SentencePiece's dummy space goes: before each run of plain text, before the prompt's first run,
# nowhere.
SpacePrefix = Literal["each", "first", "never"]

_FORMAT = 1  # raise when a field changes its meaning: older packed files are then refused, not misread

# The names that model families give to "my turn is over" and to "a new turn begins". Both end a reply.
TURN_BORDERS = frozenset(
    {
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|start_header_id|>",
        "<|end|>",
        "<|eot|>",
        "<|end_of_turn|>",
        "<end_of_turn>",
        "<｜end▁of▁sentence｜>",
        "</s>",
    }
)
_LOOKS_LIKE_CONTROL = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)


def looks_like_control(text: str) -> bool:
    """Whether a token's text is a marker by its form. Old conversions list such tokens among ordinary
    ones."""
    return text in TURN_BORDERS or _LOOKS_LIKE_CONTROL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A token that only a template may write. `lstrip`/`rstrip`: it swallows white space on that side."""

    text: str
    id: int
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A vocabulary, its control tokens and its chat template.

    `tokenizer_json` is in the `tokenizers` library's form and knows no control token: neither its
    vocabulary, its merges nor its added tokens contain one, so that no plain text can ever be encoded to one.
    """

    tokenizer_json: str
    encoding: Encoding
    control_tokens: tuple[ControlToken, ...]
    bos_id: int | None = None
    eos_id: int | None = None
    stop_ids: tuple[int, ...] = ()  # ascending; any of them ends a reply
    add_bos: bool = False  # a prompt begins with bos even where the template does not write it
    space_prefix: SpacePrefix = "never"
    chat_template: str | None = None

    def to_json(self) -> str:
        """The whole value as one JSON document."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TokenizerSpec:
        """Read what `to_json` wrote. Raises `BadModelFile` for anything else."""
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("format") != _FORMAT:
                raise BadModelFile("the packed tokenizer has another format", way_out="pack the model again")
            values["control_tokens"] = tuple(ControlToken(**token) for token in values["control_tokens"])
            values["stop_ids"] = tuple(values["stop_ids"])
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            raise BadModelFile(f"the packed tokenizer cannot be read: {cause}") from cause


def stop_ids(control_tokens: Iterable[ControlToken], named: Iterable[int | None]) -> tuple[int, ...]:
    """The ids that end a reply: those a checkpoint names (eos, eot, …) and the well-known borders of
    turns."""
    borders = {token.id for token in control_tokens if token.text in TURN_BORDERS}
    return tuple(sorted(borders | {token_id for token_id in named if token_id is not None}))
