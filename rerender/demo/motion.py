"""How things move in the demo world: layouts, Lissajous paths, the camera, and exact poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerender.demo.sprites import Array

MOTIONS: tuple[str, ...] = ("slow", "fast", "crossing", "zoom", "cut")
_TEMPO = {"slow": 0.035, "fast": 0.14, "crossing": 0.05, "zoom": 0.035, "cut": 0.035}
_DRIFT = {"slow": 0.6, "fast": 1.6, "crossing": 0.5, "zoom": 0.6, "cut": 0.6}  # pixels a frame
_RADII = {1: (30, 38), 2: (26, 33), 3: (20, 25), 4: (17, 22)}


@dataclass(frozen=True)
class Sprite:
    """One moving thing: what it is and the numbers of its Lissajous path (reference pixels)."""

    colour: str
    subject: str
    radius: float
    centre: tuple[float, float]
    swing: tuple[float, float]
    phase: float
    tempo: float


@dataclass(frozen=True)
class CameraPath:
    """What is between two cuts: sprites from back to front, the background's phase and horizon."""

    sprites: tuple[Sprite, ...]
    phase: float
    horizon: float


@dataclass(frozen=True)
class Pose:
    """Where one surface is in one frame: image = centre + scale * rotation(angle) @ own."""

    centre: tuple[float, float]
    scale: float
    angle: float

    def to_own(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Image coordinates to the surface's own."""
        cos, sin = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        dx, dy = x - self.centre[0], y - self.centre[1]
        return (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)

    def to_image(self, u: Array, v: Array) -> tuple[Array, Array]:
        """The surface's own coordinates to image coordinates."""
        cos, sin = np.cos(self.angle) * self.scale, np.sin(self.angle) * self.scale
        return u * cos - v * sin + self.centre[0], u * sin + v * cos + self.centre[1]


def shot(seed: int, number: int, motion: str, nouns: tuple[tuple[str, str], ...]) -> CameraPath:
    """The layout of shot ``number`` of a clip."""
    rng = np.random.default_rng([seed, 1 + number])
    turn = rng.uniform(0, 2 * np.pi)
    placed = tuple(
        _place(rng, noun, len(nouns), turn + 2 * np.pi * i / len(nouns), motion)
        for i, noun in enumerate(nouns)
    )
    return CameraPath(placed, float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-10, 14)))


def _place(
    rng: np.random.Generator, noun: tuple[str, str], count: int, bearing: float, motion: str
) -> Sprite:
    """Sprites stand round the centre, so that they overlap while they move, not always."""
    away = 0.0 if count == 1 else 26.0
    jitter = rng.uniform(-6, 6, 2) if count > 1 else rng.uniform(-16, 16, 2)
    cross = motion == "crossing"
    return Sprite(
        *noun,
        radius=float(rng.uniform(*_RADII[count])),
        centre=(
            float((0 if cross else away * np.cos(bearing)) + jitter[0]),
            float(0.8 * away * np.sin(bearing) + jitter[1]),
        ),
        swing=(34.0, 3.0) if cross else (float(rng.uniform(8, 18)), float(rng.uniform(4, 12))),
        phase=float(bearing if cross else rng.uniform(0, 2 * np.pi)),
        tempo=float(_TEMPO[motion] * rng.uniform(0.8, 1.2)),
    )


@dataclass(frozen=True)
class SceneLayout:
    """The frame that a shot is seen in: its size, the kind of motion, left or right."""

    size: tuple[int, int]
    motion: str
    leftwards: bool

    @property
    def unit(self) -> float:
        """Pixels per reference pixel."""
        return min(self.size) / 128

    def zoom(self, index: int) -> float:
        """The camera's magnification at a frame."""
        return float(1.2 - 0.25 * np.cos(0.06 * index)) if self.motion == "zoom" else 1.0

    def background(self, shot: CameraPath, index: int) -> Pose:
        """Where the background is; its own unit is a reference pixel."""
        zoom = self.zoom(index)
        drift = _DRIFT[self.motion] * (-1 if self.leftwards else 1)
        height, width = self.size
        centre = (
            (width - 1) / 2 + zoom * drift * index * self.unit,
            float((height - 1) / 2 + zoom * (shot.horizon + 3 * np.sin(0.07 * index)) * self.unit),
        )
        return Pose(centre, zoom * self.unit, 0.0)

    def sprite(self, sprite: Sprite, index: int) -> Pose:
        """Where a sprite is; its own unit is its half-width."""
        beat = sprite.tempo * index + sprite.phase
        zoom = self.zoom(index)
        height, width = self.size
        x = sprite.centre[0] + sprite.swing[0] * np.sin(beat)
        y = sprite.centre[1] + sprite.swing[1] * np.cos(0.9 * beat)
        centre = (
            float((width - 1) / 2 + zoom * x * width / 128),
            float((height - 1) / 2 + zoom * y * height / 128),
        )
        size = sprite.radius * zoom * self.unit * (1 + 0.08 * np.sin(0.7 * beat))
        return Pose(centre, float(size), float(0.3 * np.sin(0.8 * beat + sprite.phase)))
