"""Grammars as values: literal text, control tokens and JSON of a schema, in sequence, by choice, and repeated.

They are put down in llguidance's Lark-like notation (its docs/syntax.md). A grammar is a text, so the same grammar is
the same key in a cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# As Python's `json.dumps` and the templates' `tojson` write it, which is what models have read in training. With fixed
# separators and no other white space, all punctuation that a schema forces is appended without a draw.
JSON_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True)
class Grammar:
    """An expression of the notation."""

    expression: str

    def __add__(self, other: Grammar) -> Grammar:
        return Grammar(f"{self.expression} {other.expression}".strip())

    def repeated(self, most: int) -> Grammar:
        """None of it, up to `most` in a row."""
        return Grammar(f"({self.expression}){{0,{most}}}")

    @property
    def source(self) -> str:
        """The whole grammar, as the compiler reads it."""
        return f"start: {self.expression}"


def literal(text: str) -> Grammar:
    """Exactly this text; it may be empty."""
    return Grammar(json.dumps(text) if text else "")


def control_token(token_id: int) -> Grammar:
    """Exactly this token, which has no text."""
    return Grammar(f"<[{token_id}]>")


def json_of(schema: Mapping[str, Any]) -> Grammar:
    """JSON that a schema in the compiler's subset (`schema.grammar_schema`) describes."""
    return Grammar(f"%json {json.dumps({**schema, 'x-guidance': JSON_LAYOUT})}")


def any_of(grammars: Sequence[Grammar]) -> Grammar:
    """One of them."""
    alternatives = [grammar.expression for grammar in grammars]
    return Grammar(alternatives[0] if len(alternatives) == 1 else f"({' | '.join(alternatives)})")
