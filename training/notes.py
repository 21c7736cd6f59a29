"""Notes: what each of a picture's 64 rows is first taught to say.

A field is one row of the language model's prompt with a meaning of its own: "the colour of what is at the top left",
"the third letter". A picture's notes are one value a field, 0 for "nothing". Neighbouring rows read like
English to the language model ("top left: large red circle"), which is why it can use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.vocabulary import (
    COLOURS,
    DIGITS,
    KINDS,
    LETTERS,
    MAX_LETTERS,
    NUMBERS,
    PLACES,
    SHAPES,
    SIZES,
    THINGS,
    WORDS,
)  # fmt: skip

NUM_ROWS = 64
# By name, the values a field can take; value 0 of every field is "nothing".
VALUES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "kind": KINDS,
    "number": NUMBERS,
    "colour": tuple(COLOURS),
    "size": SIZES,
    "thing": THINGS,
    "word": tuple(WORDS),
    "letter": LETTERS,
    "digit": DIGITS,
    "state": ("rising", "falling", "ticked", "empty"),
    **{f"place {place}": (place,) for place in PLACES},
}


@dataclass(frozen=True)
class Field:
    """One row: its name, and which values it takes."""

    name: str
    values: str


def _at(place: str) -> list[Field]:
    values = (f"place {place}", "size", "colour", "thing")
    names = ("place", "size", "colour", "thing")
    return [Field(f"{place}: {name}", value) for name, value in zip(names, values, strict=True)]


def _fields() -> tuple[Field, ...]:
    """Eight lines of eight, as the tower's rows lie on the picture: what is seen at a place is noted near it, which is
    learned from fewer pictures than writing it somewhere else, and the four notes on it stand in one run."""
    fields = [
        *_at("top left"), *_at("top"),
        Field("kind", "kind"), Field("count", "number"), Field("background", "colour"), Field("opening", "none"),
        *_at("top right"),
        *(Field(f"count of {shape}", "number") for shape in SHAPES),
        *_at("left"), *_at("center"),
        Field("most", "colour"), Field("least", "colour"), Field("state", "state"), Field("word", "word"),
        *_at("right"),
        *(Field(f"letter {place + 1}", "letter") for place in range(MAX_LETTERS)),
        *_at("bottom left"), *_at("bottom"),
        *(Field(f"digit {place + 1}", "digit") for place in range(3)), Field("closing", "none"),
        *_at("bottom right"),
    ]  # fmt: skip
    if len(fields) != NUM_ROWS:
        raise AssertionError(f"{len(fields)} fields for {NUM_ROWS} rows")
    return tuple(fields)


FIELDS = _fields()
_ROW_OF = {field.name: row for row, field in enumerate(FIELDS)}
_CODE_OF = {name: {value: code for code, value in enumerate(values, 1)} for name, values in VALUES.items()}


def written(notes: Mapping[str, str]) -> NDArray[np.int16]:
    """Codes [64] of what is noted by field name; a value that a field has no code for (a new word) stays "nothing"."""
    codes = np.zeros(NUM_ROWS, np.int16)
    for name, value in notes.items():
        row = _ROW_OF[name]
        codes[row] = _CODE_OF[FIELDS[row].values].get(value, 0)
    return codes


def read(codes: NDArray[np.int16]) -> dict[str, str]:
    """The other way round, without the fields that say nothing."""
    pairs = zip(FIELDS, codes.tolist(), strict=True)
    return {field.name: VALUES[field.values][code - 1] for field, code in pairs if code}
