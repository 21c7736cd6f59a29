"""Grammars compiled for one vocabulary, and their constraints: what a request may say next, token by token.

The work is llguidance's: a lexer of derivatives and an Earley parser over the trie of all tokens, about 0.1 ms a mask.
It bounds its own time and memory; what goes over these limits is refused here, or later as its own reply's 400. The
library is loaded when the first grammar is compiled, since few servers of plain text need it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hokku.grammar.grammar import Grammar
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.scope import current_scope

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# A compiled grammar takes up to some 40 bytes for each character of its source.
MAX_KEPT = 128
MAX_KEPT_CHARS = 4_000_000
MAX_GRAMMAR_CHARS = 1_000_000
# Whether a regular expression blows up shows only on the way through it. This much of one reply is tried before the
# first: 10 ms for a real schema, and what fails here would have failed a request in the middle.
_TRIED_TOKENS = 64


class GrammarRefused(InvalidRequest):
    """A grammar that cannot be compiled, or that went over its limits on the way, in the compiler's words."""


class GrammarTooLarge(GrammarRefused):
    """A grammar that is not even tried."""


class Vocabulary(Protocol):
    """The tokens that a grammar is compiled for."""

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """Tokens that end a reply."""

    @property
    def control_ids(self) -> frozenset[int]:
        """Tokens without a text."""

    def token_bytes(self, token_id: int) -> bytes:
        """A token's text; empty for control tokens and ids that stand for nothing."""

    def encode(self, text: str) -> Sequence[int]:
        """Plain text as the model would read it."""


class GrammarConstraint:
    """One request's way through a grammar: the engine's `TokenConstraint`."""

    def __init__(self, matcher: LLMatcher, stop_token_ids: frozenset[int], num_tokens: int) -> None:
        self._matcher = matcher
        self._stop_token_ids = stop_token_ids
        self._num_tokens = num_tokens

    def copy(self) -> GrammarConstraint:
        """Another one in the same state; takes microseconds."""
        return GrammarConstraint(self._matcher.deep_copy(), self._stop_token_ids, self._num_tokens)

    def forced(self) -> Sequence[int]:
        """The tokens that must come now; the end of the turn where the grammar ends."""
        if self._matcher.is_stopped():
            self._refuse_errors()
            return (min(self._stop_token_ids),)
        forced = self._matcher.compute_ff_tokens()
        if not forced and self._has_to_end():
            return (min(self._stop_token_ids),)
        return forced

    def advance(self, tokens: Sequence[int]) -> None:
        """These tokens have come. Raises `GrammarRefused` for one that the grammar does not allow."""
        self._matcher.consume_tokens(list(tokens))
        self._refuse_errors()

    def allows(self, tokens: Sequence[int]) -> bool:
        """Whether these tokens may come."""
        return self._matcher.validate_tokens(list(tokens)) == len(tokens)

    def allowed(self) -> NDArray[np.uint32]:
        """One bit a token; stop tokens are among them where the grammar may end."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        self._refuse_errors()
        return mask[: -(-self._num_tokens // 32)]  # the library's may be a word longer

    def num_free(self, draft: Sequence[int]) -> int:
        """None: every token has its mask."""
        return 0

    def _has_to_end(self) -> bool:
        """Whether nothing may come but a stop token. The library stops by itself only where it can tell without a
        mask, which behind the end of a JSON string it cannot."""
        if not self._matcher.is_accepting():
            return False
        mask = self.allowed().copy()
        for token_id in self._stop_token_ids:
            mask[token_id // 32] &= ~np.uint32(1 << token_id % 32)
        return not mask.any()

    def _refuse_errors(self) -> None:
        if self._matcher.is_error():
            cause = first_line(self._matcher.get_error())
            raise GrammarRefused(f"a schema became too complex in the middle of the reply: {cause}")


class GrammarCompiler:
    """Compiles for one model, and keeps what it compiled, for each workspace by itself. Safe to share between threads.

    Args:
        vocabulary: the model's tokens.
        num_tokens: how many its output layer has; more than the vocabulary names, with some.
    """

    def __init__(self, vocabulary: Vocabulary, num_tokens: int) -> None:
        self._vocabulary = vocabulary
        self._num_tokens = num_tokens
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()  # by scope and source
        self._num_kept_chars = 0
        self.num_compiled = 0

    def constraint(self, grammar: Grammar) -> GrammarConstraint:
        """A fresh constraint. Compiling takes milliseconds, up to a second for the largest, with the interpreter
        lock released. Raises `GrammarRefused`."""
        source = grammar.source
        key = (current_scope(), source)
        with self._lock:
            matcher = self._kept.get(key)
            if matcher is not None:
                self._kept.move_to_end(key)
        if matcher is None:
            matcher = self._compile(source)
            with self._lock:
                self.num_compiled += 1
                self._keep(key, matcher)
        return GrammarConstraint(matcher.deep_copy(), self._vocabulary.stop_token_ids, self._num_tokens)

    def _compile(self, source: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        if len(source) > MAX_GRAMMAR_CHARS:
            raise GrammarTooLarge(f"a grammar has at most {MAX_GRAMMAR_CHARS} characters")
        limits = LLParserLimits(verbose_errors=False)
        grammar = LLMatcher.grammar_from_lark(source)
        matcher = LLMatcher(self._library_tokenizer(), grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise GrammarRefused(first_line(matcher.get_error()))
        _try(matcher.deep_copy())
        return matcher

    def _keep(self, key: tuple[str, str], matcher: LLMatcher) -> None:
        self._num_kept_chars += len(key[1]) if key not in self._kept else 0
        self._kept[key] = matcher
        while len(self._kept) > MAX_KEPT or self._num_kept_chars > MAX_KEPT_CHARS:
            (_, forgotten), _ = self._kept.popitem(last=False)
            self._num_kept_chars -= len(forgotten)

    def _library_tokenizer(self) -> LLTokenizer:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _library_tokenizer(self._vocabulary, self._num_tokens)
            return self._tokenizer


def _try(matcher: LLMatcher) -> None:
    """Go some way through a grammar, at random but always the same. Raises `GrammarRefused`."""
    choice = np.random.default_rng(0)
    for _ in range(_TRIED_TOKENS):
        mask = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        (tokens,) = np.nonzero(np.unpackbits(mask, bitorder="little"))
        if not len(tokens) and not matcher.is_error():
            raise GrammarRefused("nothing can satisfy it")
        if matcher.is_error():
            raise GrammarRefused(first_line(matcher.get_error()))
        if matcher.is_stopped():
            return
        matcher.consume_token(int(choice.choice(tokens)))


class _Tokens:
    """A vocabulary in the shape that llguidance wants."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, num_tokens: int) -> None:
        self.eos_token_id = min(vocabulary.stop_token_ids)
        self.special_token_ids = sorted(vocabulary.control_ids)
        self.tokens = [vocabulary.token_bytes(token_id) for token_id in range(num_tokens)]
        self._encode = vocabulary.encode

    def __call__(self, text: str | bytes) -> list[int]:
        return list(self._encode(text.decode() if isinstance(text, bytes) else text))


def _library_tokenizer(vocabulary: Vocabulary, num_tokens: int) -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    tokens = TokenizerWrapper(_Tokens(vocabulary, num_tokens))
    return LLTokenizer(tokens, n_vocab=num_tokens, eos_token=sorted(vocabulary.stop_token_ids))


def first_line(message: str) -> str:
    """The compiler's own sentence, without its drawing of the grammar and the state."""
    line = message.partition("\n")[0]
    return line.partition("failed to compile JSON schema: ")[2] or line
