"""Draws pictures and says what is in them. Everything comes from one random generator: the same seed, the same pixels.

A picture is drawn on a canvas of some shape and resized to 256×256 as serving does it (Pillow, Lanczos, the ratio of
the edges not kept).
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.fonts import HELD_OUT_FONTS, TRAINING_FONTS, font
from training.shapes import DRAW, Pen
from training.vocabulary import (
    BUTTONS,
    COLOURS,
    DIGITS,
    ICONS,
    LABELS,
    LETTERS,
    NEW_WORDS,
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
class Mark:
    """Where something lies: a thing or one letter or digit in a box, in shares of the picture's edges."""

    name: str
    colour: str
    box: tuple[float, float, float, float]  # left, top, right, bottom
    size: str = ""  # of a thing
    turn: int = 0  # of a thing, letter or digit in reading order, from 1 on


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
    marks: tuple[Mark, ...] | None = None  # what lies where; None where nobody says


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
    marks = [
        replace(_draw_thing(painter, draw, image.size, thing, alone=len(things) == 1), turn=turn)
        for turn, thing in enumerate(things, 1)
    ]
    return Picture(painter.finished(image), "shapes", background, tuple(things), marks=tuple(marks))


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
) -> Mark:
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
    box = ((x - radius) / width, (y - radius) / height, (x + radius) / width, (y + radius) / height)
    return Mark(thing.name, thing.colour, box, size=thing.size)


# Letters, words and numbers.


def _text_on_canvas(painter: Painter, text: str, widest: float, tallest: float) -> Picture:
    """A picture of kind "" with its text's marks. The text is up to these shares of the canvas."""
    image, background = painter.canvas()
    width, height = image.size
    name = painter.one_of(painter.fonts)
    left, top, right, bottom = font(name, 100).getbbox(text)
    room = min(width * widest / (right - left), height * tallest / (bottom - top))
    size = max(12, round(100 * room * painter.between(0.45, 1)))
    left, top, right, bottom = font(name, size).getbbox(text)
    x = painter.between(0.03, 1) * max(0, width - (right - left)) * 0.97 - left
    y = painter.between(0.03, 1) * max(0, height - (bottom - top)) * 0.97 - top
    colour = painter.one_of(painter.seen_on(background))
    ImageDraw.Draw(image).text((x, y), text, fill=painter.rgb(colour), font=font(name, size))
    degrees = painter.between(-5, 5) if painter.chance(0.3) else 0.0
    marks = _marks_of_text(text, (x, y), font(name, size), colour, image.size, degrees)
    if degrees:
        image = image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0)))
    return Picture(painter.finished(image), "", background, font=name, marks=marks)


def _marks_of_text(
    text: str,
    at: tuple[float, float],
    drawn_in: ImageFont.FreeTypeFont,
    colour: str,
    size: tuple[int, int],
    degrees: float = 0.0,
) -> tuple[Mark, ...]:
    """Every letter's box; a turned one keeps its width and height around its turned middle."""
    width, height = size
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    marks = []
    for place, letter in enumerate(text):
        start = at[0] + drawn_in.getlength(text[:place])
        left, top, right, bottom = drawn_in.getbbox(letter)
        x, y = start + (left + right) / 2 - width / 2, at[1] + (top + bottom) / 2 - height / 2
        x, y = cosine * x + sine * y + width / 2, cosine * y - sine * x + height / 2
        half_width, half_height = (right - left) / 2, (bottom - top) / 2
        box = ((x - half_width) / width, (y - half_height) / height,
               (x + half_width) / width, (y + half_height) / height)  # fmt: skip
        marks.append(Mark(letter.lower(), colour, box, turn=place + 1))
    return tuple(marks)


def _word(painter: Painter) -> Picture:
    word = painter.one_of(NEW_WORDS if painter.held_out and painter.chance(0.25) else WORDS)
    style = painter.random.integers(3)
    shown = (word, word.capitalize(), word.upper())[style]
    return replace(_text_on_canvas(painter, shown, 0.95, 0.5), kind="word", text=word)


def _letter(painter: Painter) -> Picture:
    letter = painter.one_of(LETTERS)
    shown = letter.upper() if painter.chance(0.6) else letter
    return replace(_text_on_canvas(painter, shown, 0.9, 0.8), kind="letter", text=letter)


def _number(painter: Painter) -> Picture:
    num_digits = 1 if painter.chance(0.55) else int(painter.random.integers(2, 4))
    first = 0 if num_digits == 1 else 10 ** (num_digits - 1)
    number = str(painter.random.integers(first, 10**num_digits))
    return replace(_text_on_canvas(painter, number, 0.92, 0.85), kind="number", text=number)


# Crowds: nobody asks about them, but one shows up to 36 things where a scene shows three.

CROWD = "crowd"


def _crowd(painter: Painter) -> Picture:
    """Things, letters and digits in a grid of two to six lines, each in its cell."""
    image, background = painter.canvas()
    colours, draw = painter.seen_on(background), ImageDraw.Draw(image)
    side = int(painter.random.integers(2, 7))
    width, height = image.size[0] / side, image.size[1] / side
    marks: list[Mark] = []
    for cell in range(side * side):
        if painter.chance(0.9):
            row, column = divmod(cell, side)
            colour = painter.one_of(colours)
            corner = (column * width, row * height)
            one = _lone_thing if painter.chance(0.45) else _lone_letter
            marks.append(one(painter, draw, image.size, corner, (width, height), colour))
    return Picture(painter.finished(image), CROWD, background, marks=tuple(marks))


def _lone_thing(
    painter: Painter,
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    cell: tuple[float, float],
    colour: str,
) -> Mark:
    name = painter.one_of(THINGS)
    radius = painter.between(0.3, 0.47) * min(cell)
    x, y = (c + painter.between(radius, s - radius) for c, s in zip(corner, cell, strict=True))
    DRAW[name](Pen(draw, x, y, radius, painter.between(-0.14, 0.14), painter.rgb(colour)))
    width, height = size
    box = ((x - radius) / width, (y - radius) / height, (x + radius) / width, (y + radius) / height)
    return Mark(name, colour, box)


def _lone_letter(
    painter: Painter,
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    cell: tuple[float, float],
    colour: str,
) -> Mark:
    letter = painter.one_of(DIGITS) if painter.chance(0.35) else painter.one_of(LETTERS)
    letter = letter.upper() if painter.chance(0.5) else letter
    drawn_in = font(painter.one_of(painter.fonts), max(12, round(min(cell) * painter.between(0.6, 1))))
    left, top, right, bottom = drawn_in.getbbox(letter)
    x = corner[0] + painter.between(0, max(0.0, cell[0] - (right - left))) - left
    y = corner[1] + painter.between(0, max(0.0, cell[1] - (bottom - top))) - top
    draw.text((x, y), letter, fill=painter.rgb(colour), font=drawn_in)
    return replace(_marks_of_text(letter, (x, y), drawn_in, colour, size)[0], turn=0)


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
    most = least = state = ""
    if kind == "line chart":
        values.sort(reverse=painter.chance(0.5))
        state = "rising" if values[0] < values[-1] else "falling"
        axes.plot(
            range(num), values, color=shades[0], marker="o" if painter.chance(0.5) else "", linewidth=2.5
        )
    else:
        most, least = colours[int(np.argmax(values))], colours[int(np.argmin(values))]
        if kind == "bar chart":
            axes.bar(list("ABCDEF"[:num]), values, color=shades)
        else:
            axes.pie(values, colors=shades, startangle=painter.between(0, 360))
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return Picture(painter.finished(image), kind, "white", count=num, most=most, least=least, state=state)


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
    marks: list[Mark] = []

    def write(
        at: tuple[float, float], text: str, fill: RGB, points: int, colour: str, *, counts: bool
    ) -> None:
        draw.text(at, text, fill=fill, font=font(name, points))
        letters = _marks_of_text(text, at, font(name, points), colour, image.size)
        marks.extend(letters if counts else (replace(letter, turn=0) for letter in letters))

    for label in painter.random.permutation(LABELS)[:num_fields].tolist():
        write((left, y), label, ink, size, "black", counts=False)
        box_left = left + 120
        draw.rectangle((box_left, y - 4, _EDGE - 24, y + size + 8), outline=edge, width=2)
        y += size + painter.between(24, 34)
    ticked = painter.chance(0.5)
    draw.rectangle((left, y, left + 30, y + 30), outline=ink, width=3)
    if ticked:
        draw.line([(left + 6, y + 15), (left + 13, y + 24), (left + 26, y + 5)], fill=accent, width=5)
    offer = painter.one_of(("Remember me", "I agree", "Subscribe"))
    write((left + 44, y), offer, ink, size, "black", counts=False)
    y += painter.between(50, 66)
    button = painter.one_of(BUTTONS)
    draw.rounded_rectangle((left, y, left + 170, y + size + 26), radius=8, fill=accent)
    write((left + 24, y + 9), button, (255, 255, 255), size + 4, "white", counts=True)
    state = "ticked" if ticked else "empty"
    return Picture(
        painter.finished(image),
        "form",
        "white",
        text=button,
        font=name,
        count=num_fields,
        state=state,
        marks=tuple(marks),
    )


_SHARES = {
    "shapes": 0.55, "word": 0.16, "number": 0.12, "letter": 0.06,
    "bar chart": 0.03, "line chart": 0.015, "pie chart": 0.025, "form": 0.04,
}  # fmt: skip
_DRAW = {
    CROWD: _crowd,
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
