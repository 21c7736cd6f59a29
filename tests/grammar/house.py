"""A vocabulary of single bytes and a few words, and ways to ask what a constraint lets through."""

from __future__ import annotations

from collections.abc import Sequence

from hokku.grammar.compiler import GrammarCompiler, GrammarConstraint, GrammarRefused
from hokku.grammar.grammar import Grammar

END, MARK = 256, 257
WORDS = [b'{"', b'": ', b'", "', b'"}', b"}}", b'"]', b"true", b"null", b" the", b'": {"']
NUM_TOKENS = 300  # more than there are, as an output layer has


class ByteVocabulary:
    """Tokens 0 to 255 are bytes; 256 ends the turn, 257 is a control token, words follow."""

    stop_token_ids = frozenset({END})
    control_ids = frozenset({END, MARK})

    def token_bytes(self, token_id: int) -> bytes:
        if token_id < END:
            return bytes([token_id])
        place = token_id - MARK - 1
        return WORDS[place] if 0 <= place < len(WORDS) else b""

    def encode(self, text: str) -> Sequence[int]:
        return list(text.encode())


def compiler() -> GrammarCompiler:
    return GrammarCompiler(ByteVocabulary(), NUM_TOKENS)


def takes(constraint: GrammarConstraint, text: str) -> bool:
    """Whether `text` may come and the reply may end behind it, a token of one byte at a time."""
    try:
        constraint.advance(list(text.encode()))
    except GrammarRefused:
        return False
    return may_end(constraint)


def may_end(constraint: GrammarConstraint) -> bool:
    forced = list(constraint.forced())
    return forced == [END] or (not forced and END in allowed_ids(constraint))


def allowed_ids(constraint: GrammarConstraint) -> set[int]:
    mask = constraint.allowed()
    return {token for token in range(NUM_TOKENS) if int(mask[token // 32]) >> token % 32 & 1}


def accepts(grammar: Grammar, text: str) -> bool:
    return takes(compiler().constraint(grammar), text)
