"""Typed text: what people wrote, in an alphabet in which no control token can be spelled.

A chat template mixes its own markers with people's text into one string, and only afterwards are control
tokens looked for in it. So people's text enters the template shifted: every character that occurs in any
control token is replaced by a lone surrogate, which real text never contains. Whatever the template does
with it (trim, slice, put it beside half a marker), no piece of it can be part of a match; shifting back
after the match is lossless.

`TypedText` is only for fidelity: a template that asks `'</think>' in content` gets the answer for the text as
written. An operation it does not know falls back to the shifted text, which is safe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

from hokku.chat.run_cache import RunCache
from hokku.protocol.errors import BadModelFile

_FIRST_STAND_IN = 0xD800
# Never stand-ins: what marks where a prefill ends in a rendered conversation, where blocks end (`borders.py`), and
# where pictures stand and each of their tiles (`pictures.py`).
END_OF_PREFILL = "\udfff"
FIRST_MARK, LAST_MARK = "\udff0", "\udffe"
BLOCK_MARKS, PICTURE_MARKS = (FIRST_MARK, LAST_MARK), ("\udf00", "\udfee")  # ranges, first and last
TILE_MARK = "\udfef"
MarkRange = tuple[str, str]
_MOST_STAND_INS = ord(PICTURE_MARKS[0]) - _FIRST_STAND_IN
_SURROGATE = re.compile("[\ud800-\udfff]")


class TypedAlphabet:
    """Shifts text into and out of the alphabet that avoids the characters of `control_texts`.

    White space is left in place, so that templates can trim; a control token of white space alone is
    therefore never looked for (`Tokenizer` leaves it out).
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        characters = sorted(character for character in set("".join(control_texts)) if not character.isspace())
        if len(characters) > _MOST_STAND_INS:
            raise BadModelFile(f"its control tokens use {len(characters)} different characters")
        stand_ins = [chr(_FIRST_STAND_IN + place) for place in range(len(characters))]
        self._shift = str.maketrans(dict(zip(characters, stand_ins, strict=True)))
        self._unshift = str.maketrans(dict(zip(stand_ins, characters, strict=True)))
        self._meant: tuple[MarkRange, ...] = ()
        self._texts: RunCache[TypedText] = RunCache()

    def meaning(self, *marks: MarkRange) -> TypedAlphabet:
        """The same alphabet for text in which these marks are meant."""
        other = copy(self)
        other._meant = marks
        return other

    def typed(self, text: str) -> TypedText:
        """`text` shifted. Lone surrogates in it are no text and become U+FFFD."""
        return self._texts.made(text, self._meant, self._typed)

    def typed_prefill(self, text: str) -> TypedText:
        """`text` shifted, with `END_OF_PREFILL` behind it."""
        return self.shifted(_clean(text, self._meant) + END_OF_PREFILL)

    def _typed(self, text: str, meant: tuple[MarkRange, ...]) -> TypedText:
        return self.shifted(_clean(text, meant))

    def shifted(self, text: str) -> TypedText:
        """`text`, which holds no surrogates but marks, shifted."""
        return TypedText(text.translate(self._shift), self)

    def recognized(self, text: str) -> str:
        """`TypedText` again where an operation has made plain `str` of wholly shifted text, as macros do."""
        shifted = self.shifted(self.plain(text))
        return shifted if str.__eq__(shifted, text) else text

    def plain(self, text: str) -> str:
        """`text`, which may mix shifted and other characters, as it was written."""
        return text.translate(self._unshift)


def _clean(text: str, meant: tuple[MarkRange, ...]) -> str:
    """The text with U+FFFD in place of what is none, but for what is meant."""

    def kept(match: re.Match[str]) -> str:
        mark = match.group()
        return mark if any(first <= mark <= last for first, last in meant) else "\ufffd"

    return _SURROGATE.sub(kept, text) if meant else _SURROGATE.sub("\ufffd", text)


class TypedText(str):
    """Shifted text whose methods answer as if it were not."""

    _alphabet: TypedAlphabet

    def __new__(cls, shifted: str, alphabet: TypedAlphabet) -> TypedText:
        """Text that is already shifted, with the alphabet that shifted it."""
        text = super().__new__(cls, shifted)
        text._alphabet = alphabet
        return text

    def _plain(self, value: Any) -> Any:
        return self._alphabet.plain(value) if isinstance(value, str) else value

    def _typed(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._alphabet.shifted(value)
        return type(value)(map(self._typed, value)) if isinstance(value, list | tuple) else value


def _answering_as_written(method: Callable[..., Any]) -> Callable[..., Any]:
    def answer(self: TypedText, *arguments: Any) -> Any:
        return self._typed(method(self._plain(self), *map(self._plain, arguments)))

    return answer


for _name in (  # noqa: SIM905
    "strip lstrip rstrip split rsplit splitlines partition rpartition replace removeprefix removesuffix "
    "lower upper title capitalize startswith endswith find rfind index rindex count isdigit "
    "__contains__ __getitem__ __eq__ __ne__"
).split():
    setattr(TypedText, _name, _answering_as_written(getattr(str, _name)))
