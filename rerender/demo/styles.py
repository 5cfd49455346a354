"""The eight styles: how a surface of the world is painted.

A style sees one surface at a time (a sprite or the background) through its own coordinates, so
its texture moves with the surface and the stylised clip is as coherent as the photo.
"""

# mypy: disable-error-code="no-any-return"
# (numpy types most arithmetic of float32 arrays and numbers as Any)

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rerender.demo.sprites import Array, rgb

TAU = 2 * np.pi
_NEAR = 1e3  # no sprite is as deep as this; the background is deeper
MOSAIC_CELL, PIXEL_CELL = 16.0, 12.0


class Surface(NamedTuple):
    """What a style may look at.

    Attributes:
        u, v: own coordinates in reference pixels.
        depth: distance inside the outline in reference pixels; far away for the background.
        albedo: photo colours ``[...,3]`` at any own coordinates.
    """

    u: Array
    v: Array
    depth: Array
    albedo: Callable[[Array, Array], Array]


def _rim(depth: Array, width: float) -> Array:
    """1 on the outline, falling to 0 ``width`` reference pixels inside it."""
    return np.clip(1 - np.abs(depth) / width, 0, 1)[..., None]


def _luminance(colour: Array) -> Array:
    return (colour @ rgb(0.299, 0.587, 0.114))[..., None]


def _tinted(s: Surface, colour: Array, tint: Array, behind: float, front: float) -> Array:
    """Move towards a tint: by ``behind`` on the background and by ``front`` on sprites, so that
    a style has a palette of its own and a sprite keeps the colour it is called by."""
    amount = np.where(s.depth < _NEAR, front, behind).astype(np.float32)[..., None]
    return colour + amount * (tint - colour)


def _stairs(x: Array, cell: float) -> tuple[Array, Array]:
    """Centre of the cell around ``x``, moving from one to the next within 1.5 reference pixels,
    and the distance to the nearest border between cells."""
    place = x / cell
    index = np.floor(place)
    to_next = (1 - (place - index)) * cell
    climb = np.clip(0.5 - to_next / 1.5, 0, 1)
    fall = np.clip(0.5 - (cell - to_next) / 1.5, 0, 1)
    return (index + 0.5 + climb - fall) * np.float32(cell), np.minimum(to_next, cell - to_next)


def _photo(s: Surface) -> Array:
    return s.albedo(s.u, s.v) * (1 - 0.45 * _rim(s.depth, 2.5))


def _watercolor(s: Surface) -> Array:
    wash = np.sin(s.u * (TAU / 34) + 1.1 * np.sin(s.v * (TAU / 46)))
    paint = 0.50 + 0.50 * s.albedo(s.u, s.v) + 0.035 * wash[..., None]
    return paint * (1 - 0.28 * _rim(s.depth, 5))


def _oil(s: Surface) -> Array:
    stroke = np.sin((s.u + 0.7 * s.v) * (TAU / 28) + 1.2 * np.sin((s.v - s.u) * (TAU / 52)))
    colour = s.albedo(s.u, s.v)
    vivid = np.clip(colour * 1.35 - 0.35 * _luminance(colour), 0, 1)
    return vivid * (0.62 + 0.13 * stroke[..., None]) * rgb(1.08, 0.86, 0.62)


def _neon(s: Surface) -> Array:
    colour = s.albedo(s.u, s.v)
    pure = colour / np.maximum(colour.max(-1, keepdims=True), 0.2)
    glow = np.exp(-np.abs(s.depth) / 5)[..., None]
    return 0.22 * colour * rgb(0.8, 0.4, 1.2) + rgb(0.04, 0.0, 0.10) + glow * pure


def _pencil(s: Surface) -> Array:
    hatch = np.sin((s.u - s.v) * (TAU / 24))[..., None]
    dark = 1 - _luminance(s.albedo(s.u, s.v))
    grey = 0.96 - dark * (0.42 + 0.10 * hatch) - 0.7 * _rim(s.depth, 3.5)
    return grey * rgb(1.0, 1.0, 0.97)


def _mosaic(s: Surface) -> Array:
    u, across = _stairs(s.u, MOSAIC_CELL)
    v, along = _stairs(s.v, MOSAIC_CELL)
    tile = s.albedo(u, v) * (0.92 + 0.13 * np.sin(u * 1.7 + v * 2.9))[..., None]
    grout = np.clip(1.4 - np.minimum(across, along) / 2.5, 0, 1)[..., None]
    glazed = _tinted(s, tile, rgb(0.10, 0.72, 0.66), 0.5, 0.12)
    return glazed + 0.4 * grout * (rgb(0.80, 1.0, 0.95) - glazed)


def _gold(s: Surface) -> Array:
    light = _luminance(s.albedo(s.u, s.v))
    sheen = 0.5 + 0.5 * np.sin(s.u * (TAU / 42) + s.v * (TAU / 42))[..., None]
    glint = 0.30 * light + 0.30 * sheen
    metal = rgb(0.42, 0.26, 0.05) + glint * rgb(1.0, 1.0, 0.55)
    marble = (0.16 + 0.30 * light) * rgb(0.92, 0.95, 1.05)
    cast = _tinted(s, marble, metal, 0.0, 1.0)
    return cast * (1 - 0.5 * _rim(s.depth, 3))


def _pixel(s: Surface) -> Array:
    u, _ = _stairs(s.u, PIXEL_CELL)
    v, _ = _stairs(s.v, PIXEL_CELL)
    colour = s.albedo(u, v)
    grey = _luminance(colour)
    vivid = np.clip(grey * 1.15 + (colour - grey) * 1.8, 0, 1)
    screen = _tinted(s, vivid, rgb(1.0, 0.45, 0.85), 0.5, 0.0)
    return screen * (1 - 0.95 * np.clip(_rim(s.depth, 6) * 2, 0, 1))


STYLES: dict[str, Callable[[Surface], Array]] = {
    "photo": _photo,
    "watercolor": _watercolor,
    "oil": _oil,
    "neon": _neon,
    "pencil": _pencil,
    "mosaic": _mosaic,
    "gold statue": _gold,
    "pixel art": _pixel,
}


def paint(style: str, surface: Surface) -> Array:
    """Colours ``[...,3]`` in 0..1 of a surface in a style."""
    return np.clip(STYLES[style](surface), 0, 1).astype(np.float32)
