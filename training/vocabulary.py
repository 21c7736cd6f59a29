"""What the made-up pictures can show, and the words for it."""

from __future__ import annotations

import zlib
from pathlib import Path

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (220, 30, 35),
    "green": (40, 160, 60),
    "blue": (35, 80, 215),
    "yellow": (248, 220, 40),
    "orange": (250, 140, 25),
    "purple": (130, 50, 170),
    "pink": (250, 130, 185),
    "brown": (120, 70, 35),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "gray": (135, 135, 135),
    "cyan": (60, 210, 225),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")
ICONS = ("house", "tree", "sun", "moon", "cloud", "car", "flower", "fish")
THINGS = SHAPES + ICONS
SIZES = ("small", "medium", "large")
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
KINDS = (
    "shapes", "word", "number", "letter", "bar chart", "line chart", "pie chart", "form",
)  # fmt: skip
BUTTONS = ("Save", "Cancel", "Send", "Search", "Login", "Next", "Back", "Delete", "Submit", "Close")
LABELS = ("Name", "Email", "City", "Phone", "Street", "Country", "Age", "Date", "Title", "Notes")
MAX_LETTERS = 8


def plural(thing: str) -> str:
    """The plural of a thing's name."""
    return {"cross": "crosses", "fish": "fish", "box": "boxes"}.get(thing, thing + "s")


def with_article(words: str) -> str:
    """ "a red circle", "an orange star"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def _all_words() -> tuple[str, ...]:
    words = (Path(__file__).with_name("words.txt").read_text("utf-8")).split()
    return tuple(word for word in words if len(word) <= MAX_LETTERS)


ALL_WORDS = _all_words()
# One word in eight is never shown in training: what is read of those was spelled out, not recognised.
NEW_WORDS = tuple(word for word in ALL_WORDS if zlib.crc32(word.encode()) % 8 == 0)
WORDS = tuple(word for word in ALL_WORDS if zlib.crc32(word.encode()) % 8)
