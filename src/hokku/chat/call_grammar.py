"""What a reply with tools may be: the same syntax of calls that `calls.py` reads, as a grammar.

A forced call is held to it from the first token. Where the model may choose, the grammar begins when a call begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hokku.chat.formats.base import BLANKS, MAX_CALLS, CallSyntax
from hokku.chat.tokenizer import Tokenizer
from hokku.grammar.compiler import GrammarConstraint
from hokku.grammar.grammar import Grammar, any_of, control_token, json_of, literal

_ALL_BITS = 0xFFFFFFFF


def calls_grammar(
    syntax: CallSyntax, inputs: Mapping[str, Mapping[str, Any]], *, is_parallel: bool
) -> Grammar:
    """One call or several, without the opening of the first.

    Args:
        inputs: the schema of each tool's input, in the compiler's subset, by name.
    """
    call = literal(syntax.before_name) + any_of(
        [
            literal(name + syntax.between) + json_of(schema) + literal(syntax.after_input)
            for name, schema in inputs.items()
        ]
    )
    more = Grammar("")
    if is_parallel and syntax.separator is not None:
        more = (literal(syntax.separator) + call).repeated(MAX_CALLS - 1)
    return literal(syntax.lead) + call + more + literal(syntax.closing)


def opening_grammar(syntax: CallSyntax, tokenizer: Tokenizer) -> Grammar:
    """The opening of the first call: one token where the vocabulary has a control token for it."""
    token_id = tokenizer.control_id(syntax.opening)
    return literal(syntax.opening) if token_id is None else control_token(token_id)


class CallConstraint:
    """Anything, until a call begins; from there on the grammar of calls. The engine's `TokenConstraint`.

    Args:
        text_of: a token's text, openings that are control tokens included.
        encode: plain text as tokens.
        calls: the constraint that begins behind the opening.
        num_tokens: of the model's output layer.
        is_continued: the reply continues words of the prompt, so none of its own is the first.
    """

    def __init__(
        self,
        syntax: CallSyntax,
        text_of: Callable[[int], bytes],
        encode: Callable[[str], Sequence[int]],
        calls: GrammarConstraint,
        num_tokens: int,
        *,
        is_continued: bool,
    ) -> None:
        self._opening = syntax.opening.encode()
        self._opens_reply_only = syntax.opens_reply_only
        self._text_of = text_of
        self._encode = encode
        self._fresh_calls = calls
        self._everything = np.full(-(-num_tokens // 32), _ALL_BITS, np.uint32)
        self._calls: GrammarConstraint | None = None
        self._end = b""  # of the text so far: as much as may begin an opening
        self._may_open = not (self._opens_reply_only and is_continued)

    def forced(self) -> Sequence[int]:
        """Nothing before a call."""
        return () if self._calls is None else self._calls.forced()

    def advance(self, tokens: Sequence[int]) -> None:
        """Follow the text until a call begins, and the call from there."""
        for place, token in enumerate(tokens):
            if self._calls is not None:
                self._calls.advance(tokens[place:])
                return
            self._read(self._text_of(token))

    def allowed(self) -> NDArray[np.uint32]:
        """Everything before a call."""
        return self._everything if self._calls is None else self._calls.allowed()

    def num_free(self, draft: Sequence[int]) -> int:
        """Those before a call begins."""
        if self._calls is not None:
            return 0
        text = self._end
        for place, token in enumerate(draft):
            text += self._text_of(token)
            if self._opening in text:
                return place
        return len(draft)

    def _read(self, piece: bytes) -> None:
        text = self._end + piece
        while self._calls is None:
            at = self._find(text)
            if at < 0:
                break
            text = text[at + len(self._opening) :]
            self._calls = self._begun(text)
        if not self._opens_reply_only:
            self._end = text[-(len(self._opening) - 1) :]
        else:
            self._end = text if self._may_open else b""

    def _find(self, text: bytes) -> int:
        if not self._opens_reply_only:
            return text.find(self._opening)
        at = len(text) - len(text.lstrip(BLANKS.encode()))
        begins = self._may_open and text.startswith(self._opening, at)
        self._may_open = self._may_open and not begins and self._opening.startswith(text[at:])
        return at if begins else -1

    def _begun(self, rest: bytes) -> GrammarConstraint | None:
        """The grammar's constraint behind what the opening's last token brought along; None if it is not the
        beginning of a call."""
        calls = self._fresh_calls.copy()
        try:
            tokens = self._encode(rest.decode())
        except UnicodeDecodeError:
            return None
        if not calls.allows(tokens):
            return None
        calls.advance(tokens)
        return calls
