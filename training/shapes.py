"""Draws one thing: shapes and icons as polygons and ellipses in one colour, details in a darker shade of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from training.vocabulary import RGB

Points = NDArray[np.float64]  # [N][2] in units of the radius, y down


@dataclass(frozen=True)
class Pen:
    """Where a thing is drawn: centre and radius in pixels, turned by `angle` radians."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    radius: float
    angle: float
    colour: RGB

    @property
    def shade(self) -> RGB:
        """A colour for details: darker, or lighter where the colour is dark already."""
        r, g, b = self.colour
        if max(self.colour) < 70:
            return (r + 80, g + 80, b + 80)
        return (r * 11 // 20, g * 11 // 20, b * 11 // 20)

    def place(self, points: Points) -> list[tuple[float, float]]:
        """Unit points as pixels."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turned = points @ np.array([[cosine, sine], [-sine, cosine]]) * self.radius
        return [(self.x + px, self.y + py) for px, py in turned.tolist()]

    def polygon(self, points: Points, colour: RGB | None = None) -> None:
        """Fill a polygon."""
        self.draw.polygon(self.place(points), fill=colour or self.colour)

    def disc(self, x: float, y: float, radius: float, colour: RGB | None = None) -> None:
        """Fill a circle around a unit point."""
        [(px, py)] = self.place(np.array([[x, y]]))
        r = radius * self.radius
        self.draw.ellipse((px - r, py - r, px + r, py + r), fill=colour or self.colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: RGB | None = None) -> None:
        """Fill a rectangle given by unit coordinates."""
        self.polygon(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), colour)


def _regular(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon standing on its base, or a star whose inner corners lie at `inner`."""
    angles = np.arange(2 * corners) * np.pi / corners - np.pi / 2
    radii = np.where(np.arange(2 * corners) % 2, inner, 1.0)
    if inner == 1.0:
        angles, radii = angles[::2], radii[::2]
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 48)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -(y + 2) / 16], 1)


def _crescent() -> Points:
    outer = np.linspace(0.3 * np.pi, 1.7 * np.pi, 32)
    inner = outer[::-1]
    outside = np.stack([np.cos(outer), np.sin(outer)], 1)
    ends = outside[0]
    inside = np.stack([0.45 + np.cos(inner) * 0.82, np.sin(inner) * abs(ends[1])], 1)
    return np.concatenate([outside, inside[4:-4]])


_TRIANGLE = np.array([[0, -0.95], [0.95, 0.8], [-0.95, 0.8]])
_DIAMOND = np.array([[0, -1], [0.68, 0], [0, 1], [-0.68, 0]])
_ARM = 0.32
_CROSS = np.array([
    [-_ARM, -1], [_ARM, -1], [_ARM, -_ARM], [1, -_ARM], [1, _ARM], [_ARM, _ARM],
    [_ARM, 1], [-_ARM, 1], [-_ARM, _ARM], [-1, _ARM], [-1, -_ARM], [-_ARM, -_ARM],
]) * 0.95  # fmt: skip
_STAR, _HEART, _CRESCENT = _regular(5, 0.42), _heart(), _crescent()


def _ring(pen: Pen) -> None:
    r = pen.radius * 0.97
    pen.draw.ellipse(
        (pen.x - r, pen.y - r, pen.x + r, pen.y + r), outline=pen.colour, width=max(3, round(r * 0.33))
    )


def _house(pen: Pen) -> None:
    pen.box(-0.75, -0.15, 0.75, 0.95)
    pen.polygon(np.array([[-1, -0.1], [0, -1], [1, -0.1]]), pen.shade)
    pen.box(-0.2, 0.35, 0.2, 0.95, pen.shade)


def _tree(pen: Pen) -> None:
    pen.box(-0.14, 0.3, 0.14, 1, (110, 70, 40))
    for x, y, r in ((0, -0.45, 0.55), (-0.4, 0, 0.45), (0.4, 0, 0.45)):
        pen.disc(x, y, r)


def _sun(pen: Pen) -> None:
    for turn in np.arange(8) * np.pi / 4:
        c, s = np.cos(turn), np.sin(turn)
        ray = np.array([[0.62, -0.12], [1, 0], [0.62, 0.12]])
        pen.polygon(ray @ np.array([[c, s], [-s, c]]))
    pen.disc(0, 0, 0.52)


def _cloud(pen: Pen) -> None:
    for x, y, r in ((-0.5, 0.15, 0.4), (0.02, -0.15, 0.5), (0.52, 0.12, 0.42)):
        pen.disc(x, y, r)
    pen.box(-0.5, 0.1, 0.55, 0.54)


def _car(pen: Pen) -> None:
    pen.polygon(np.array([[-0.6, -0.05], [-0.4, -0.5], [0.35, -0.5], [0.6, -0.05]]), pen.shade)
    pen.box(-1, -0.08, 1, 0.4)
    for x in (-0.5, 0.5):
        pen.disc(x, 0.42, 0.25, (40, 40, 40))
        pen.disc(x, 0.42, 0.1, (200, 200, 200))


def _flower(pen: Pen) -> None:
    for turn in np.arange(6) * np.pi / 3:
        pen.disc(0.6 * np.cos(turn), 0.6 * np.sin(turn), 0.36)
    pen.disc(0, 0, 0.3, pen.shade)


def _fish(pen: Pen) -> None:
    t = np.linspace(0, 2 * np.pi, 32)
    pen.polygon(np.stack([0.7 * np.cos(t) - 0.25, 0.5 * np.sin(t)], 1))
    pen.polygon(np.array([[0.3, 0], [1, -0.5], [1, 0.5]]))
    pen.disc(-0.6, -0.1, 0.09, pen.shade)


DRAW: dict[str, Callable[[Pen], None]] = {
    "circle": lambda pen: pen.disc(0, 0, 0.97),
    "square": lambda pen: pen.box(-0.82, -0.82, 0.82, 0.82),
    "triangle": lambda pen: pen.polygon(_TRIANGLE),
    "star": lambda pen: pen.polygon(_STAR),
    "heart": lambda pen: pen.polygon(_HEART),
    "diamond": lambda pen: pen.polygon(_DIAMOND),
    "cross": lambda pen: pen.polygon(_CROSS),
    "ring": _ring,
    "house": _house,
    "tree": _tree,
    "sun": _sun,
    "moon": lambda pen: pen.polygon(_CRESCENT),
    "cloud": _cloud,
    "car": _car,
    "flower": _flower,
    "fish": _fish,
}
