"""Where sentences begin and end, by punctuation alone: good enough to quote by, in any language that has any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_CLOSERS = "\"'”’»)\\]"
# The end of a sentence: a full stop and what may close after it, then a space; or a full stop of East Asian scripts,
# which needs none; or an empty line, or the line's end before an item of a list. A run of full stops is tried from its
# beginning only, so that no text takes more time than its length.
_END = re.compile(
    rf"(?<![.!?…])(?P<stop>[.!?…]++)[{_CLOSERS}]*+(?=\s)"
    rf"|[。！？]+[{_CLOSERS}」』）]*"
    r"|\n[ \t\r]*(?=\n)"
    r"|\n(?=[ \t]*(?:[-*•]|\d+[.)])[ \t])"
)
_ABBREVIATIONS = re.compile(
    r"mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|e\.g|i\.e|cf|fig|nos?|vol|pp?|eds?|al|approx|dept|inc|ltd|co"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|[^\W\d_]"  # months; and initials
)
_LAST_WORD = re.compile(r"[\w.]+$")


class Span(NamedTuple):
    """`text[start:end]`."""

    start: int
    end: int


def sentences(text: str) -> Iterator[Span]:
    """The sentences of a text in order, without the blanks around them; together they hold all that is not blank."""
    start = 0
    for end in (*_ends(text), len(text)):
        yield from _trimmed(text, start, end)
        start = end


def pieces(text: str, span: Span, max_chars: int) -> Iterator[Span]:
    """A stretch of text as it is, or in pieces where it is too long, cut at the ends of lines or else between words."""
    start = span.start
    while span.end - start > max_chars:
        limit = start + max_chars
        cut = max(text.rfind("\n", start + 1, limit), 0) or max(text.rfind(" ", start + 1, limit), 0) or limit
        yield from _trimmed(text, start, cut)
        start = cut
    yield from _trimmed(text, start, span.end)


def first_sentence(text: str) -> Span | None:
    """The first sentence of a text that goes on; None while what comes may still belong to it.

    Cut off behind it, the rest of the text has the same sentences as before.
    """
    start = 0
    for end in _ends(text):
        if end == len(text):
            return None  # more full stops, or what closes after them, may follow
        for sentence in _trimmed(text, start, end):
            return sentence
        start = end
    return None


def _ends(text: str) -> Iterator[int]:
    for match in _END.finditer(text):
        if match["stop"] != "." or not _is_abbreviation(text, match.start()):
            yield match.end()


def _is_abbreviation(text: str, stop: int) -> bool:
    word = _LAST_WORD.search(text, max(0, stop - 16), stop)
    if word is None:
        return False
    return _ABBREVIATIONS.fullmatch(word[0].casefold()) is not None


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    piece = text[start:end]
    begin = start + len(piece) - len(piece.lstrip())
    stop = start + len(piece.rstrip())
    if begin < stop:
        yield Span(begin, stop)
