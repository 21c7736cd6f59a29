"""GGUF metadata → `TokenizerSpec`: byte-level BPE ("gpt2") and SentencePiece BPE ("llama") vocabularies.

The keys are those of the GGUF specification, section "Tokenizer". Values come as plain Python ones, read by
whoever opened the file; they are untrusted and checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from hokku.chat.pretokenizers import pre_tokenizer
from hokku.chat.spec import ControlToken, Encoding, TokenizerSpec, looks_like_control, stop_ids
from hokku.protocol.errors import BadModelFile

_PREFIX = "tokenizer.ggml."


class _Type(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class _Vocab:
    """The checked lists and ids of a file's metadata."""

    metadata: Mapping[str, Any]
    tokens: Sequence[str]
    types: Sequence[int]

    def get(self, key: str, default: Any = None) -> Any:
        return self.metadata.get(_PREFIX + key, default)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise _bad(key, "is not a boolean")
        return value

    def id(self, key: str) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or not 0 <= value < len(self.tokens):
            raise _bad(key, f"{value!r} is not one of the vocabulary's {len(self.tokens)} ids")
        return value

    def list_of(self, key: str, kind: type | tuple[type, ...], length: int | None = None) -> Sequence[Any]:
        values = self.get(key)
        if not isinstance(values, list | tuple) or not all(isinstance(value, kind) for value in values):
            raise _bad(key, "is missing or not a list of the right kind")
        if length is not None and len(values) != length:
            raise _bad(key, f"has {len(values)} entries for {length} tokens")
        return values

    def control_tokens(self) -> tuple[ControlToken, ...]:
        """Tokens that plain text must never give: by their type, by their role, or by their form."""
        by_role = {self.id(f"{role}_token_id") for role in ("bos", "eos", "eot", "eom", "unknown")}
        return tuple(
            ControlToken(text, token_id)
            for token_id, (text, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind in (_Type.CONTROL, _Type.UNKNOWN) or token_id in by_role or looks_like_control(text)
        )


def spec_from_gguf(metadata: Mapping[str, Any]) -> TokenizerSpec:
    """Build the tokenizer that a GGUF file describes.

    Args:
        metadata: key → plain value (str, int, float, bool, list); keys beginning with `tokenizer.` are read.

    Raises:
        BadModelFile: a kind of tokenizer or pre-tokenizer we do not support, or entries that do not fit
            together.
    """
    vocab = _checked(metadata)
    control = vocab.control_tokens()
    match vocab.get("model"):
        case "gpt2":
            encoding: Encoding = "byte_level"
            tokenizer, adds_bos, prefixed = _byte_level(vocab, control)
        case "llama":
            encoding = "sentencepiece"
            tokenizer, adds_bos, prefixed = _sentencepiece(vocab, control)
        case other:
            raise _bad("model", f"{other!r} is not supported", "supported are gpt2 and llama")
    template = metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise BadModelFile("is not text", place="tokenizer.chat_template")
    return TokenizerSpec(
        tokenizer_json=json.dumps(tokenizer, ensure_ascii=False),
        encoding=encoding,
        control_tokens=control,
        bos_id=vocab.id("bos_token_id"),
        eos_id=vocab.id("eos_token_id"),
        stop_ids=stop_ids(control, [vocab.id(f"{role}_token_id") for role in ("eos", "eot", "eom")]),
        add_bos=vocab.flag("add_bos_token", adds_bos),
        space_prefix="each" if prefixed else "never",
        chat_template=template,
    )


def _checked(metadata: Mapping[str, Any]) -> _Vocab:
    bare = _Vocab(metadata, (), ())
    tokens = cast("Sequence[str]", bare.list_of("tokens", str))
    if not tokens:
        raise _bad("tokens", "is empty")
    if bare.get("token_type") is None:
        return _Vocab(metadata, tokens, [_Type.NORMAL] * len(tokens))
    return _Vocab(metadata, tokens, bare.list_of("token_type", int, len(tokens)))


def _byte_level(vocab: _Vocab, control: Sequence[ControlToken]) -> tuple[dict[str, Any], bool, bool]:
    family = pre_tokenizer(vocab.get("pre", "default"))
    hidden = {token.text for token in control}
    merges = [merge for merge in vocab.list_of("merges", str) if merge.replace(" ", "", 1) not in hidden]
    model = {"ignore_merges": family.ignore_merges, "vocab": _plain_ids(vocab, control), "merges": merges}
    normalizer = {"type": "NFC"} if family.normalizes_nfc else None
    tokenizer = _tokenizer(vocab, control, model, normalizer, family.to_json())
    return tokenizer, family.adds_bos, False


def _sentencepiece(vocab: _Vocab, control: Sequence[ControlToken]) -> tuple[dict[str, Any], bool, bool]:
    prefixed = vocab.flag("add_space_prefix", True)
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": "▁"}] if prefixed else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    merges = _merges_by_score(vocab, control)
    model = {"byte_fallback": True, "vocab": _plain_ids(vocab, control), "merges": merges}
    tokenizer = _tokenizer(vocab, control, model, {"type": "Sequence", "normalizers": steps}, None)
    return tokenizer, True, prefixed


def _plain_ids(vocab: _Vocab, control: Sequence[ControlToken]) -> dict[str, int]:
    hidden = {token.id for token in control}
    ids: dict[str, int] = {}
    for token_id, (text, kind) in enumerate(zip(vocab.tokens, vocab.types, strict=True)):
        if kind != _Type.UNUSED and token_id not in hidden:
            ids.setdefault(text, token_id)
    return ids


def _merges_by_score(vocab: _Vocab, control: Sequence[ControlToken]) -> list[str]:
    """Merges that join pieces in SentencePiece's order: best score first.

    SentencePiece has no merge list; it joins whichever neighbours make the piece of the highest score (Kudo
    and Richardson 2018, BPE mode). Every way to cut a piece in two known pieces is therefore a merge of its
    score.
    """
    scores = vocab.list_of("scores", (int, float), len(vocab.tokens))
    hidden = {token.id for token in control}
    score_of = {
        text: scores[token_id]
        for token_id, (text, kind) in enumerate(zip(vocab.tokens, vocab.types, strict=True))
        if kind == _Type.NORMAL and token_id not in hidden and " " not in text
    }
    ranked = sorted(score_of, key=lambda text: -score_of[text])
    return [
        f"{text[:cut]} {text[cut:]}"
        for text in ranked
        for cut in range(1, len(text))
        if text[:cut] in score_of and text[cut:] in score_of
    ]


def _tokenizer(
    vocab: _Vocab,
    control: Sequence[ControlToken],
    model: dict[str, Any],
    normalizer: dict[str, Any] | None,
    pre_tokenizer_json: dict[str, Any] | None,
) -> dict[str, Any]:
    hidden = {token.id for token in control}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    added = [
        {"id": token_id, "content": text, **flags}
        for token_id, (text, kind) in enumerate(zip(vocab.tokens, vocab.types, strict=True))
        if kind == _Type.USER_DEFINED and token_id not in hidden and text
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer_json,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", **model},
    }


def _bad(key: str, message: str, way_out: str | None = None) -> BadModelFile:
    return BadModelFile(message, place=_PREFIX + key, way_out=way_out)
