"""The sprites: signed distances and colours in each sprite's own coordinates.

A sprite's own coordinates ``u, v`` have its centre at 0 and its half-width near 1; ``v`` points
down. Everything here is a function of them alone, so it moves with the sprite.
"""

# mypy: disable-error-code="no-any-return"
# (numpy types most arithmetic of float32 arrays and numbers as Any)

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]


def rgb(red: float, green: float, blue: float) -> Array:
    """A colour as a ``[3]`` array."""
    return np.array([red, green, blue], np.float32)


PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.12),
    "green": (0.13, 0.68, 0.18),
    "blue": (0.16, 0.32, 0.95),
    "yellow": (0.95, 0.85, 0.13),
    "purple": (0.72, 0.20, 0.82),
    "white": (0.93, 0.93, 0.95),
}
_DARK = rgb(0.13, 0.12, 0.14)
_GLASS = rgb(0.62, 0.80, 0.90)
_WOOD = rgb(0.38, 0.24, 0.12)


def _circle(u: Array, v: Array, x: float, y: float, radius: float) -> Array:
    return np.sqrt((u - x) ** 2 + (v - y) ** 2) - np.float32(radius)


def _rectangle(u: Array, v: Array, x: float, y: float, half_w: float, half_h: float) -> Array:
    return np.maximum(np.abs(u - x) - np.float32(half_w), np.abs(v - y) - np.float32(half_h))


def _ball(u: Array, v: Array) -> Array:
    return _circle(u, v, 0, 0, 0.9)


def _box(u: Array, v: Array) -> Array:
    return _rectangle(u, v, 0, 0, 0.8, 0.8)


def _star(u: Array, v: Array) -> Array:
    """A pentagram: the points beyond at most one of its five lines (second-largest distance)."""
    first = second = np.full_like(u, -np.inf)
    for tip in range(5):
        angle = 0.4 * np.pi * tip
        beyond = v * np.float32(np.cos(angle)) - u * np.float32(np.sin(angle))
        second = np.maximum(second, np.minimum(first, beyond))
        first = np.maximum(first, beyond)
    return second - np.float32(0.36)


def _fish(u: Array, v: Array) -> Array:
    body = (np.sqrt(((u + 0.15) / 0.85) ** 2 + (v / 0.56) ** 2) - 1) * np.float32(0.6)
    tail = np.maximum(np.abs(v) * 0.85 - (u - 0.45) * 0.95, u - 1.05)
    return np.minimum(body, tail)


def _car(u: Array, v: Array) -> Array:
    hull = _rectangle(u, v, 0, 0.18, 1.0, 0.32)
    cabin = np.maximum(
        np.abs(u) * 0.8 - (v + 0.95) * 0.6 - 0.2, _rectangle(u, v, 0, -0.3, 0.7, 0.3)
    )
    wheels = _circle(np.abs(u), v, 0.55, 0.5, 0.27)
    return np.minimum(np.minimum(hull, cabin), wheels)


def _tree(u: Array, v: Array) -> Array:
    crown = np.maximum((np.abs(u) * 0.88 - (v + 1.05) * 0.47), v - 0.5)
    return np.minimum(crown, _rectangle(u, v, 0, 0.72, 0.2, 0.3))


SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "ball": _ball,
    "box": _box,
    "star": _star,
    "fish": _fish,
    "car": _car,
    "tree": _tree,
}


def distance(subject: str, u: Array, v: Array) -> Array:
    """Signed distance to the outline in own units, negative inside; same shape as ``u``."""
    return np.asarray(SHAPES[subject](u, v), np.float32)


def _cover(colour: Array, over: Array, gap: Array) -> Array:
    """Paint ``over`` where ``gap`` (own units) is negative, with a soft edge."""
    alpha = np.clip(0.5 - gap * 14, 0, 1)[..., None]
    return colour + alpha * (over - colour)


def albedo(subject: str, colour: str, phase: float, u: Array, v: Array) -> Array:
    """The sprite's photo colours ``[..., 3]`` in 0..1: shading, a soft pattern, its parts."""
    pattern = np.sin(6.0 * u + phase) * np.sin(6.0 * v + 2 * phase)
    light = np.clip(0.92 - 0.14 * (u + v), 0.6, 1.15) + 0.13 * pattern
    skin = light[..., None] * rgb(*PALETTE[colour])
    if subject == "fish":
        skin = _cover(skin, _DARK, _circle(u, v, -0.6, -0.12, 0.13))
    elif subject == "car":
        skin = _cover(skin, _GLASS, _rectangle(np.abs(u), v, 0.28, -0.28, 0.2, 0.17))
        skin = _cover(skin, _DARK, _circle(np.abs(u), v, 0.55, 0.5, 0.27))
    elif subject == "tree":
        skin = _cover(skin, _WOOD * light[..., None], 0.5 - v)
    return np.clip(skin, 0, 1)
