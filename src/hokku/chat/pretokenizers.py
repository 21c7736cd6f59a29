"""How text is cut into words before byte-level BPE merges: one entry a family, as `tokenizer.ggml.pre` names
it.

The expressions are facts of the models' own `tokenizer.json` files; a vocabulary only gives the tokens it
was trained to give under the cut it was trained with, so an unknown name is refused rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hokku.protocol.errors import BadModelFile

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What llama.cpp applies to a file that names no family: punctuation runs, words, digit runs, threes of
# digits.
_UNNAMED = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """Expressions applied one after the other, each splitting the pieces of the one before.

    `ignore_merges`: a whole word that is a token is taken as it is. `adds_bos`: the family's prompts begin
    with bos unless the file says otherwise.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    normalizes_nfc: bool = False

    def to_json(self) -> dict[str, Any]:
        """The `pre_tokenizer` entry of a `tokenizer.json`; byte-level stand-ins come last."""
        splits = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in self.patterns
        ]
        flags = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {"type": "Sequence", "pretokenizers": [*splits, {"type": "ByteLevel", **flags}]}


_DIGITS_THEN_GPT2 = PreTokenizer((r"\p{N}", _GPT2))
_PRE_TOKENIZERS = {
    "default": PreTokenizer(_UNNAMED),
    "gpt-2": PreTokenizer((_GPT2,)),
    "mpt": PreTokenizer((_GPT2,)),
    "olmo": PreTokenizer((_GPT2,)),
    "smollm": _DIGITS_THEN_GPT2,
    "starcoder": _DIGITS_THEN_GPT2,
    "refact": _DIGITS_THEN_GPT2,
    "command-r": _DIGITS_THEN_GPT2,
    "codeshell": _DIGITS_THEN_GPT2,
    "llama-bpe": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "llama3": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "llama-v3": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "dbrx": PreTokenizer((_LLAMA3,)),
    "smaug-bpe": PreTokenizer((_LLAMA3,)),
    "qwen2": PreTokenizer((_QWEN2,), normalizes_nfc=True),
    "deepseek-r1-qwen": PreTokenizer((_QWEN2,)),
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, adds_bos=True),
}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The cut that `tokenizer.ggml.pre` names. Raises `BadModelFile` for a family we do not know."""
    try:
        return _PRE_TOKENIZERS[name]
    except KeyError:
        raise BadModelFile(
            f"its pre-tokenizer {name!r} is not supported",
            place="tokenizer.ggml.pre",
            way_out=f"supported are {', '.join(sorted(_PRE_TOKENIZERS))}",
        ) from None
