"""Draws pictures and says what is in them. Everything comes from one random generator: the same seed, the same pixels.

A picture is drawn on a canvas of some shape and resized to 256×256 as serving does it (Pillow, Lanczos, the ratio of
the edges not kept).
"""

from __future__ import annotations

import functools
import io
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.fonts import HELD_OUT_FONTS, TRAINING_FONTS, font
from training.shapes import DRAW, Pen
from training.vocabulary import (
    BUTTONS,
    COLOURS,
    ICONS,
    LABELS,
    LETTERS,
    NEW_WORDS,
    NUMBERS,
    PLACES,
    RGB,
    SHAPES,
    THINGS,
    WORDS,
)  # fmt: skip

TILE_EDGE = 256
_EDGE = 448  # of the canvas; drawn larger than the tile, so that resizing smooths the outlines
# Radii as shares of the canvas's shorter edge; the gaps leave no doubt about the word.
_RADII = {"small": (0.055, 0.085), "medium": (0.105, 0.125), "large": (0.145, 0.165)}
_SINGLE_LARGE = (0.17, 0.40)
_LEAST_CONTRAST = 110.0  # Euclidean, between a thing's colour and what is behind it


@dataclass(frozen=True)
class Thing:
    """One thing in a scene."""

    name: str
    colour: str
    size: str
    place: str


@dataclass(frozen=True)
class Picture:
    """Pixels, and what is true of them. Fields that do not apply are empty."""

    pixels: NDArray[np.uint8]  # [256][256][3]
    kind: str
    background: str = ""
    things: tuple[Thing, ...] = ()
    text: str = ""  # the word, letter or number; a form's button
    font: str = ""
    count: int = 0  # bars, points, slices or fields
    most: str = ""  # colour of the tallest bar or the largest slice
    least: str = ""
    state: str = ""  # rising or falling; ticked or empty
    notes: dict[str, str] = field(default_factory=dict)


class Painter:
    """Draws random pictures of one split."""

    def __init__(self, seed: int, *, held_out: bool = False, with_charts: bool = True) -> None:
        self.random = np.random.default_rng([seed, int(held_out)])
        self.fonts = HELD_OUT_FONTS if held_out else TRAINING_FONTS
        self.held_out = held_out
        self.with_charts = with_charts

    def picture(self, kind: str | None = None) -> Picture:
        """A picture of the kind, or of a random one."""
        if kind is None:
            kinds, shares = zip(*_SHARES.items(), strict=True)
            kind = str(self.random.choice(kinds, p=np.array(shares) / sum(shares)))
        if not self.with_charts and kind in ("bar chart", "line chart", "pie chart"):
            kind = "shapes"
        return _DRAW[kind](self)

    # Small choices.

    def one_of(self, values: tuple[str, ...]) -> str:
        """One of the values."""
        return values[int(self.random.integers(len(values)))]

    def between(self, low: float, high: float) -> float:
        """A number in the range."""
        return float(self.random.uniform(low, high))

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return bool(self.random.random() < share)

    def rgb(self, name: str) -> RGB:
        """A shade of the colour: close to it, and never its neighbour's."""
        shift = self.random.integers(-7, 8, 3) + self.random.integers(
            -12, 13
        )  # of the hue, and of the lightness
        shade = np.clip(np.array(COLOURS[name]) + shift, 0, 255)
        return (int(shade[0]), int(shade[1]), int(shade[2]))

    def canvas(self) -> tuple[Image.Image, str]:
        """A filled canvas and its colour's name."""
        name = "white" if self.chance(0.5) else self.one_of(tuple(COLOURS))
        width = height = _EDGE
        if self.chance(0.4):
            ratio = self.between(0.5, 1)
            width, height = (
                (_EDGE, round(_EDGE * ratio)) if self.chance(0.6) else (round(_EDGE * ratio), _EDGE)
            )
        image = Image.new("RGB", (width, height), self.rgb(name))
        return image, name

    def seen_on(self, background: str) -> tuple[str, ...]:
        """The colours that stand out from this one."""
        return _contrasting(background)

    def finished(self, image: Image.Image) -> NDArray[np.uint8]:
        """The tile as serving makes it, sometimes with a little noise or worn by JPEG."""
        if self.chance(0.1):
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=int(self.random.integers(40, 90)))
            image = Image.open(stream)
        pixels = np.array(image.resize((TILE_EDGE, TILE_EDGE), Image.Resampling.LANCZOS))
        if self.chance(0.15):
            noise = self.random.normal(0, self.between(2, 9), pixels.shape)
            pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels)


@functools.cache
def _contrasting(background: str) -> tuple[str, ...]:
    behind = np.array(COLOURS[background], float)
    far = (name for name, rgb in COLOURS.items() if np.linalg.norm(behind - rgb) >= _LEAST_CONTRAST)
    return tuple(far)


# Scenes of shapes and icons.


def _scene(painter: Painter) -> Picture:
    image, background = painter.canvas()
    colours = painter.seen_on(background)
    style = painter.random.random()
    if style < 0.25:
        things = [_single(painter, colours)]
    elif style < 0.6:
        num_things = int(painter.random.integers(2, 6))
        things = _mixed(painter, colours, num_things)
    else:
        things = _alike(painter, colours)
    things.sort(key=lambda thing: PLACES.index(thing.place))
    draw = ImageDraw.Draw(image)
    for thing in things:
        _draw_thing(painter, draw, image.size, thing, alone=len(things) == 1)
    return Picture(
        painter.finished(image), "shapes", background, tuple(things), notes=_scene_notes(background, things)
    )


def _scene_notes(background: str, things: list[Thing]) -> dict[str, str]:
    notes = {"kind": "shapes", "count": NUMBERS[len(things)], "background": background}
    for thing in things:
        notes |= {
            f"{thing.place}: place": thing.place,
            f"{thing.place}: size": thing.size,
            f"{thing.place}: colour": thing.colour,
            f"{thing.place}: thing": thing.name,
        }
    for name, count in Counter(thing.name for thing in things).items():
        if name in SHAPES:
            notes[f"count of {name}"] = NUMBERS[count]
    return notes


def _any_thing(painter: Painter) -> str:
    return painter.one_of(SHAPES if painter.chance(0.75) else ICONS)


def _places(painter: Painter, num: int) -> list[str]:
    return [PLACES[place] for place in painter.random.permutation(len(PLACES))[:num].tolist()]


def _single(painter: Painter, colours: tuple[str, ...]) -> Thing:
    size = painter.one_of(("small", "medium", "large", "large"))
    place = "center" if painter.chance(0.5) else painter.one_of(PLACES)
    return Thing(_any_thing(painter), painter.one_of(colours), size, place)


def _mixed(painter: Painter, colours: tuple[str, ...], num: int) -> list[Thing]:
    sizes = ("small", "medium", "large")
    return [
        Thing(_any_thing(painter), painter.one_of(colours), painter.one_of(sizes), place)
        for place in _places(painter, num)
    ]


def _alike(painter: Painter, colours: tuple[str, ...]) -> list[Thing]:
    """One to nine of a kind, sometimes among another kind."""
    num = int(painter.random.integers(1, 10)) if painter.chance(0.4) else int(painter.random.integers(1, 6))
    name, other = _any_thing(painter), _any_thing(painter)
    colour, size = painter.one_of(colours), painter.one_of(("small", "medium", "large"))
    same_colour, mixes = painter.chance(0.6), painter.chance(0.35)
    return [
        Thing(
            other if mixes and painter.chance(0.4) else name,
            colour if same_colour else painter.one_of(colours),
            size,
            place,
        )
        for place in _places(painter, num)
    ]


def _draw_thing(
    painter: Painter, draw: ImageDraw.ImageDraw, size: tuple[int, int], thing: Thing, *, alone: bool
) -> None:
    width, height = size
    low, high = _RADII[thing.size]
    if alone and thing.size == "large" and thing.place == "center":
        low, high = _SINGLE_LARGE
    share = painter.between(low, high)
    radius = share * min(width, height)
    row, column = divmod(PLACES.index(thing.place), 3)
    slack = max(0.0, 0.163 - share)
    x = ((2 * column + 1) / 6 + painter.between(-slack, slack)) * width
    y = ((2 * row + 1) / 6 + painter.between(-slack, slack)) * height
    angle = painter.between(-0.14, 0.14)
    DRAW[thing.name](Pen(draw, x, y, radius, angle, painter.rgb(thing.colour)))


# Letters, words and numbers.


def _text_on_canvas(
    painter: Painter, text: str, widest: float, tallest: float
) -> tuple[NDArray[np.uint8], str, str]:
    """The pixels, the background's name, and the font's. The text is up to these shares of the canvas."""
    image, background = painter.canvas()
    width, height = image.size
    name = painter.one_of(painter.fonts)
    left, top, right, bottom = font(name, 100).getbbox(text)
    room = min(width * widest / (right - left), height * tallest / (bottom - top))
    size = max(12, round(100 * room * painter.between(0.45, 1)))
    left, top, right, bottom = font(name, size).getbbox(text)
    x = painter.between(0.03, 1) * max(0, width - (right - left)) * 0.97 - left
    y = painter.between(0.03, 1) * max(0, height - (bottom - top)) * 0.97 - top
    colour = painter.rgb(painter.one_of(painter.seen_on(background)))
    ImageDraw.Draw(image).text((x, y), text, fill=colour, font=font(name, size))
    if painter.chance(0.3):
        image = image.rotate(
            painter.between(-5, 5), Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0))
        )
    return painter.finished(image), background, name


def _word(painter: Painter) -> Picture:
    word = painter.one_of(NEW_WORDS if painter.held_out and painter.chance(0.25) else WORDS)
    style = painter.random.integers(3)
    shown = (word, word.capitalize(), word.upper())[style]
    pixels, background, name = _text_on_canvas(painter, shown, 0.95, 0.5)
    notes = {"kind": "word", "background": background, "word": word}
    notes |= {f"letter {place}": letter for place, letter in enumerate(word, 1)}
    return Picture(pixels, "word", background, text=word, font=name, notes=notes)


def _letter(painter: Painter) -> Picture:
    letter = painter.one_of(LETTERS)
    shown = letter.upper() if painter.chance(0.6) else letter
    pixels, background, name = _text_on_canvas(painter, shown, 0.9, 0.8)
    notes = {"kind": "letter", "background": background, "letter 1": letter}
    return Picture(pixels, "letter", background, text=letter, font=name, notes=notes)


def _number(painter: Painter) -> Picture:
    num_digits = 1 if painter.chance(0.55) else int(painter.random.integers(2, 4))
    first = 0 if num_digits == 1 else 10 ** (num_digits - 1)
    number = str(painter.random.integers(first, 10**num_digits))
    pixels, background, name = _text_on_canvas(painter, number, 0.92, 0.85)
    notes = {"kind": "number", "background": background}
    notes |= {f"digit {place}": digit for place, digit in enumerate(number, 1)}
    return Picture(pixels, "number", background, text=number, font=name, notes=notes)


# Charts, drawn by matplotlib.


def _distinct(painter: Painter, num: int) -> list[str]:
    colours = painter.seen_on("white")
    return [colours[place] for place in painter.random.permutation(len(colours))[:num].tolist()]


def _spread_values(painter: Painter, num: int) -> list[float]:
    """Distinct values whose order can be seen."""
    steps = np.cumsum(painter.random.uniform(1.0, 2.5, num)) + painter.between(0, 2)
    return [float(value) for value in painter.random.permutation(steps)]


def _chart(painter: Painter, kind: str) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(painter.between(3, 4.5), painter.between(2.6, 3.6)), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    num = int(painter.random.integers(2, 7)) if kind != "pie chart" else int(painter.random.integers(2, 6))
    colours, values = _distinct(painter, num), _spread_values(painter, num)
    shades = [tuple(part / 255 for part in painter.rgb(name)) for name in colours]
    notes = {"kind": kind, "background": "white"}
    most = least = state = ""
    if kind == "line chart":
        values.sort(reverse=painter.chance(0.5))
        state = "rising" if values[0] < values[-1] else "falling"
        axes.plot(
            range(num), values, color=shades[0], marker="o" if painter.chance(0.5) else "", linewidth=2.5
        )
        notes |= {"state": state}
    else:
        most, least = colours[int(np.argmax(values))], colours[int(np.argmin(values))]
        if kind == "bar chart":
            axes.bar(list("ABCDEF"[:num]), values, color=shades)
        else:
            axes.pie(values, colors=shades, startangle=painter.between(0, 360))
        notes |= {"most": most, "least": least, "count": NUMBERS[num]}
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return Picture(
        painter.finished(image), kind, "white", count=num, most=most, least=least, state=state, notes=notes
    )


# Made-up forms.


def _form(painter: Painter) -> Picture:
    """Fields with labels, a check box and a button, as a simple page shows them."""
    image = Image.new("RGB", (_EDGE, _EDGE), painter.rgb("white"))
    draw = ImageDraw.Draw(image)
    name = painter.one_of(painter.fonts)
    num_fields = int(painter.random.integers(1, 5))
    ink, edge = (40, 40, 45), (150, 150, 155)
    accent = painter.rgb(painter.one_of(("blue", "green", "red", "purple", "black")))
    left, y, size = painter.between(16, 40), painter.between(14, 50), int(painter.random.integers(22, 30))
    for label in painter.random.permutation(LABELS)[:num_fields].tolist():
        draw.text((left, y), label, fill=ink, font=font(name, size))
        box_left = left + 120
        draw.rectangle((box_left, y - 4, _EDGE - 24, y + size + 8), outline=edge, width=2)
        y += size + painter.between(24, 34)
    ticked = painter.chance(0.5)
    draw.rectangle((left, y, left + 30, y + 30), outline=ink, width=3)
    if ticked:
        draw.line([(left + 6, y + 15), (left + 13, y + 24), (left + 26, y + 5)], fill=accent, width=5)
    draw.text(
        (left + 44, y),
        painter.one_of(("Remember me", "I agree", "Subscribe")),
        fill=ink,
        font=font(name, size),
    )
    y += painter.between(50, 66)
    button = painter.one_of(BUTTONS)
    draw.rounded_rectangle((left, y, left + 170, y + size + 26), radius=8, fill=accent)
    draw.text((left + 24, y + 9), button, fill=(255, 255, 255), font=font(name, size + 4))
    state = "ticked" if ticked else "empty"
    notes = {"kind": "form", "background": "white", "count": NUMBERS[num_fields], "state": state}
    notes |= {f"letter {place}": letter for place, letter in enumerate(button.lower(), 1)}
    return Picture(
        painter.finished(image),
        "form",
        "white",
        text=button,
        font=name,
        count=num_fields,
        state=state,
        notes=notes,
    )


_SHARES = {
    "shapes": 0.55, "word": 0.16, "number": 0.12, "letter": 0.06,
    "bar chart": 0.03, "line chart": 0.015, "pie chart": 0.025, "form": 0.04,
}  # fmt: skip
_DRAW = {
    "shapes": _scene,
    "word": _word,
    "number": _number,
    "letter": _letter,
    "bar chart": lambda painter: _chart(painter, "bar chart"),
    "line chart": lambda painter: _chart(painter, "line chart"),
    "pie chart": lambda painter: _chart(painter, "pie chart"),
    "form": _form,
}
assert set(DRAW) == set(THINGS)
