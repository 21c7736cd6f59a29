"""Notes: what each of a picture's 64 rows is first taught to say, a word of English a row.

Read in order the rows are plain sentences, eight lines of eight: "a picture of shapes", "The background is white",
"The star is red at the top left", "There are two circles". A frozen language model answers questions from sentences;
from a table of the same facts it hardly can (docs/lab-notebook.md has the measurements).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from training.pictures import CROWD, Picture
from training.vocabulary import (
    COLOURS,
    DIGITS,
    KINDS,
    LETTERS,
    NUMBERS,
    SIZES,
    THINGS,
    WORDS,
    plural,
)  # fmt: skip

NUM_ROWS = 64
NUM_THINGS = 5  # of a scene, that have a sentence of their own: the first in reading order
LINE = 8
# Where a picture of a word is noted: the row that says "word", that of the word itself, and its letters.
WORD_SAID_ROW, WORD_ROW, SPELLED_FROM = LINE + 1, LINE + 4, 3 * LINE
_STATES = ("rising", "falling", "ticked", "empty")
_GLUE = (
    ".", ":", '"', "a", "picture", "of", "shapes", "The", "the", "background", "is", "at the", "There", "are", "in all",
    "thing", "things", "word", "letter", "number", "field", "fields", "bar", "bars", "slice", "slices", "line",
    "check box", "button", "says", "spelled", "tallest", "shortest", "largest", "smallest",
)  # fmt: skip
_SIDES = ("top", "bottom", "left", "right", "center")
# Groups of words, for curves and tables: of what the tower says right.
GROUPS: dict[str, frozenset[str]] = {
    "colour": frozenset(COLOURS),
    "thing": frozenset(THINGS),
    "size": frozenset(SIZES),
    "side": frozenset(_SIDES),
    "number": frozenset(NUMBERS),
    "digit": frozenset(DIGITS),
    "letter": frozenset(LETTERS) - frozenset(_GLUE),
    "word": frozenset(WORDS) - frozenset((*_GLUE, *_SIDES, *COLOURS, *THINGS, *NUMBERS)),
    "state": frozenset(_STATES),
    "kind": frozenset(KINDS) - frozenset(_GLUE),
}
# By code, what a row can say; code 0 is "nothing".
VOCABULARY: tuple[str, ...] = (
    "",
    *dict.fromkeys(
        (*_GLUE, *COLOURS, *THINGS, *map(plural, THINGS), *SIZES, *_SIDES,
         *NUMBERS, *DIGITS, *LETTERS, *_STATES, *KINDS, *WORDS)
    ),
)  # fmt: skip
UNSAID = -1
CODES = {word: code for code, word in enumerate(VOCABULARY)}


class _Page:
    """64 rows to write on."""

    def __init__(self) -> None:
        self.rows = [""] * NUM_ROWS

    def write(self, line: int, *words: str, column: int = 0) -> None:
        at = line * LINE + column
        self.rows[at : at + len(words)] = words


def notes_of(picture: Picture, *, knows_word: bool = True) -> tuple[str, ...]:
    """What the 64 rows are to say about a picture, "" for nothing.

    Args:
        knows_word: False for a word that is only spelled, as one that was never trained on is.
    """
    page = _Page()
    page.write(0, "a", "picture", "of", picture.kind, "The", "background", "is", picture.background)
    match picture.kind:
        case "shapes":
            _note_scene(page, picture)
        case "word":
            word = picture.text if knows_word and picture.text in CODES else ""
            page.write(1, "The", "word", "is", '"', word, '"', ".")
            _spell(page, picture.text, "word", "is", "spelled", ":")
        case "letter":
            page.write(1, "The", "letter", "is", picture.text, ".")
        case "number":
            page.write(1, "The", "number", "is", *picture.text, ".")
        case "form":
            page.write(1, "The", "check box", "is", picture.state, ".")
            _count(page, 6, picture.count, "field", "fields")
            _spell(page, picture.text.lower(), "button", "says", ":")
        case "line chart":
            page.write(1, "The", "line", "is", picture.state, ".")
        case _:
            _note_chart(page, picture)
    return tuple(page.rows)


def _note_scene(page: _Page, picture: Picture) -> None:
    for line, thing in enumerate(picture.things[:NUM_THINGS], 1):
        page.write(line, "The", thing.name, "is", thing.colour, "at the", *thing.place.split())
        page.write(line, thing.size, column=LINE - 1)
    counts = Counter(thing.name for thing in picture.things)  # in reading order
    for line, (name, count) in enumerate(counts.most_common(2), 6):
        _count(page, line, count, name, plural(name))
    num_things = len(picture.things)
    page.write(6, NUMBERS[num_things], "thing" if num_things == 1 else "things", "in all", column=5)


def _note_chart(page: _Page, picture: Picture) -> None:
    is_bars = picture.kind == "bar chart"
    part = "bar" if is_bars else "slice"
    page.write(1, "The", "tallest" if is_bars else "largest", part, "is", picture.most, ".")
    page.write(2, "The", "shortest" if is_bars else "smallest", part, "is", picture.least, ".")
    _count(page, 6, picture.count, part, f"{part}s")


def _count(page: _Page, line: int, count: int, one: str, many: str) -> None:
    page.write(line, "There", "is" if count == 1 else "are", NUMBERS[count], one if count == 1 else many, ".")


def _spell(page: _Page, text: str, *about: str) -> None:
    page.write(2, "The", *about)
    page.write(3, *text)


def written(picture: Picture, *, knows_word: bool = True) -> NDArray[np.int16]:
    """The notes as codes [64]; of a crowd nothing is to be said, not even that there is nothing."""
    if picture.kind == CROWD:
        return np.full(NUM_ROWS, UNSAID, np.int16)
    return np.array([CODES[word] for word in notes_of(picture, knows_word=knows_word)], np.int16)


def read(codes: NDArray[np.int16]) -> tuple[str, ...]:
    """The other way round."""
    return tuple(VOCABULARY[code] for code in codes.tolist())
