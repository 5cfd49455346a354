"""The backgrounds: an endless painted plane for each, in its own coordinates.

Own coordinates are in reference pixels (a 128-pixel-high frame at zoom 1), the horizon near
``v = 0``, ``v`` down. All detail is smooth and of medium scale: enough for optical flow, few
enough edges for a readable control image.
"""

# mypy: disable-error-code="no-any-return"
# (numpy types most arithmetic of float32 arrays and numbers as Any)

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rerender.demo.sprites import Array, rgb


def _mix(a: Array, b: Array, weight: Array) -> Array:
    """From colours ``a`` to ``b`` (``[3]`` or ``[...,3]``) by ``weight`` ``[...]`` in 0..1."""
    return a + weight[..., None] * (b - a)


def _step(gap: Array, softness: float = 2.0) -> Array:
    """0 above an edge, 1 below it; ``gap`` in reference pixels."""
    return np.clip(0.5 + gap / (2 * softness), 0, 1)


def _fade(v: Array, start: float, stop: float) -> Array:
    return np.clip((v - start) / (stop - start), 0, 1)


def _waves(u: Array, v: Array, along: float, across: float, phase: float) -> Array:
    return np.sin(u * (2 * np.pi / along) + phase + 1.2 * np.sin(v * (2 * np.pi / across)))


def _sea(u: Array, v: Array, phase: float) -> Array:
    sky = _mix(rgb(0.60, 0.74, 0.86), rgb(0.86, 0.90, 0.92), _fade(v, -70, 0))
    water = _mix(rgb(0.20, 0.52, 0.60), rgb(0.08, 0.32, 0.44), _fade(v, 0, 70))
    swell = np.sin(v * (2 * np.pi / 20) + 0.8 * np.sin(u * (2 * np.pi / 60) + phase))
    return _mix(sky, water + 0.04 * swell[..., None], _step(v))


def _desert(u: Array, v: Array, phase: float) -> Array:
    dune = v + 8 * np.sin(u * (2 * np.pi / 110) + phase)
    sky = _mix(rgb(0.70, 0.80, 0.86), rgb(0.94, 0.88, 0.76), _fade(v, -70, 0))
    sand = _mix(rgb(0.88, 0.68, 0.42), rgb(0.70, 0.46, 0.26), _fade(dune, 0, 70))
    ripple = _waves(u + v, v - u, 36, 70, phase)
    return _mix(sky, sand + 0.05 * ripple[..., None], _step(dune))


def _meadow(u: Array, v: Array, phase: float) -> Array:
    hill = v - 7 * np.sin(u * (2 * np.pi / 90) + phase)
    sky = _mix(rgb(0.52, 0.70, 0.90), rgb(0.82, 0.90, 0.94), _fade(v, -70, 0))
    grass = _mix(rgb(0.52, 0.66, 0.28), rgb(0.34, 0.50, 0.16), _fade(hill, 0, 70))
    tufts = np.sin(u * (2 * np.pi / 28) + phase) * np.sin(v * (2 * np.pi / 24))
    return _mix(sky, grass + 0.07 * tufts[..., None], _step(hill))


def _forest(u: Array, v: Array, phase: float) -> Array:
    trunks = _waves(u, v, 40, 160, phase)
    leaves = np.sin(v * (2 * np.pi / 30) + phase) * np.sin(u * (2 * np.pi / 48))
    shade = _mix(rgb(0.30, 0.44, 0.32), rgb(0.18, 0.30, 0.22), _fade(v, -60, 60))
    bark = _mix(shade, rgb(0.36, 0.30, 0.24), 0.4 + 0.4 * trunks)
    return bark + 0.05 * leaves[..., None]


def _city(u: Array, v: Array, phase: float) -> Array:
    sky = _mix(rgb(0.80, 0.70, 0.72), rgb(0.96, 0.86, 0.76), _fade(v, -70, 0))
    # A skyline of blocks: three sine heights, each held over one 26-pixel-wide building.
    block = np.floor(u / 26)
    roof = -16 + 13 * np.sin(block * 2.1 + phase)
    wall = 0.42 + 0.07 * np.sin(block * 4.3 + phase)
    windows = np.sin(u * (2 * np.pi / 13)) * np.sin(v * (2 * np.pi / 16))
    towers = (wall + 0.05 * windows)[..., None] * rgb(0.96, 0.98, 1.10)
    street = _mix(rgb(0.36, 0.35, 0.36), rgb(0.24, 0.23, 0.25), _fade(v, 20, 70))
    return _mix(_mix(sky, towers, _step(v - roof)), street, _step(v - 20))


def _night(u: Array, v: Array, phase: float) -> Array:
    sky = _mix(rgb(0.10, 0.11, 0.30), rgb(0.24, 0.24, 0.48), _fade(v, -70, 10))
    ridge = v - 4 + 9 * np.sin(u * (2 * np.pi / 100) + phase)
    glow = np.maximum(np.sin(u * (2 * np.pi / 44) + phase) * np.sin(v * (2 * np.pi / 36)), 0)
    sky = sky + (0.14 * glow**2)[..., None]
    return _mix(sky, np.broadcast_to(rgb(0.10, 0.11, 0.16), sky.shape), _step(ridge))


SCENERY: dict[str, Callable[[Array, Array, float], Array]] = {
    "sea": _sea,
    "desert": _desert,
    "meadow": _meadow,
    "forest": _forest,
    "city": _city,
    "night": _night,
}


def albedo(background: str, phase: float, u: Array, v: Array) -> Array:
    """The background's photo colours ``[...,3]`` in 0..1 at own coordinates ``u, v``."""
    return np.clip(SCENERY[background](u, v, phase), 0, 1).astype(np.float32)
