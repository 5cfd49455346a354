"""Procedural clips about which everything is known: frames, flow, occlusion, translations.

One to four sprites move, turn and scale over a panning background. A pixel belongs to the
topmost sprite whose outline contains it; styles and colours change how surfaces are painted and
never where they are, so one flow is true for every translation of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rerender.demo import captions, scenery, sprites
from rerender.demo.captions import BACKGROUNDS, COLOURS, STYLES, SUBJECTS, Sentence
from rerender.demo.sprites import Array
from rerender.demo.styles import Surface, paint
from rerender.flow.field import Flow

MOTIONS: tuple[str, ...] = ("slow", "fast", "crossing", "zoom", "cut")
HELD_OUT = 1_000_000  # seeds from here on are never trained on
_SPEED = {"slow": 0.035, "fast": 0.14, "crossing": 0.05, "zoom": 0.035, "cut": 0.035}
_RADII = {1: (30, 38), 2: (26, 33), 3: (20, 25), 4: (17, 22)}
_FAR = 1e6


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


@dataclass(frozen=True)
class World:
    """A procedural clip.

    Attributes:
        seed: decides everything below it that is not given; seeds >= ``HELD_OUT`` are not in
            the demo model's training data.
        frames: length of the clip.
        size: ``(H, W)`` in pixels.
        motion: one of ``MOTIONS``; "cut" jumps to another layout of the same things half-way.
        nouns: ``((colour, subject), ...)`` from back to front; drawn from the seed when ``None``.
        background: one of ``BACKGROUNDS``; drawn from the seed when ``None``.
    """

    seed: int
    frames: int = 41
    size: tuple[int, int] = (128, 128)
    motion: str = "slow"
    nouns: tuple[tuple[str, str], ...] | None = None
    background: str | None = None

    @cached_property
    def sentence(self) -> Sentence:
        """What the clip shows, without a style."""
        rng = np.random.default_rng([self.seed, 0])
        count = int(rng.choice([1, 2, 3, 4], p=[0.52, 0.38, 0.07, 0.03]))
        if self.motion == "crossing":
            count = max(count, 2)
        colours = rng.permutation(COLOURS)[:count].tolist()
        subjects = rng.permutation(SUBJECTS)[:count].tolist()
        drawn = tuple(zip(colours, subjects, strict=True))
        background = str(rng.choice(BACKGROUNDS))
        return Sentence(self.nouns or drawn, self.background or background, None)

    @property
    def caption(self) -> str:
        """The clip in words, without a style: "a red ball and a blue fish over the sea"."""
        return captions.write(self.sentence)

    def prompt(self, style: str) -> str:
        """The clip in words, with a style: "a red ball over the sea, oil"."""
        return captions.write(self.sentence._replace(style=style))

    def edited(
        self,
        nouns: tuple[tuple[str, str], ...] | None = None,
        background: str | None = None,
    ) -> World:
        """The same motion with other colours, subjects (same number) or background."""
        was = self.sentence
        if nouns is not None and len(nouns) != len(was.nouns):
            raise ValueError(f"nouns: {len(nouns)} for {len(was.nouns)} sprites; give one each")
        return replace(self, nouns=nouns or was.nouns, background=background or was.background)

    def frame(self, index: int, style: str = "photo") -> Tensor:
        """Frame ``index`` in a style, ``[3,H,W]`` float32 RGB in 0..1."""
        x, y = self._grid
        unit = self._unit
        pose = self._background_pose(index)
        u, v = pose.to_own(x, y)
        name, phase = self.sentence.background, self._scene(index)[1]
        surface = Surface(
            u, v, np.full_like(u, _FAR), lambda u, v: scenery.albedo(name, phase, u, v)
        )
        image = paint(style, surface)
        for sprite, pose in self._poses(index):
            u, v = pose.to_own(x, y)
            gap = sprites.distance(sprite.subject, u, v) * np.float32(sprite.radius)
            rows, columns = _window(gap * unit)
            u, v, gap = (part[rows, columns] for part in (u, v, gap))
            painted = paint(style, _sprite_surface(sprite, u, v, gap))
            alpha = np.clip(0.5 - gap * np.float32(unit / 1.5), 0, 1)[..., None]
            image[rows, columns] += alpha * (painted - image[rows, columns])
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def flow(self, target: int, source: int) -> Flow:
        """Exact flow with ``source(p + offset(p)) = target(p)`` and exact occlusion.

        A pixel is occluded (1) when its surface point is outside the source frame, behind
        another sprite there, or when a cut lies between the two frames.
        """
        height, width = self.size
        x, y = self._grid
        owner = self._owner(target, x, y)
        found_x, found_y = x.copy(), y.copy()
        if self._shot(target) != self._shot(source):
            return _as_flow(np.zeros_like(x), np.zeros_like(x), np.ones_like(x))
        for layer, (before, after) in enumerate(
            zip(self._surfaces(target), self._surfaces(source), strict=True)
        ):
            mine = owner == layer
            found_x[mine], found_y[mine] = after.to_image(*before.to_own(x[mine], y[mine]))
        inside = (found_x >= 0) & (found_x <= width - 1) & (found_y >= 0) & (found_y <= height - 1)
        seen = inside & (self._owner(source, found_x, found_y) == owner)
        return _as_flow(found_x - x, found_y - y, 1 - seen.astype(np.float32))

    def translation(self, prompt: str) -> tuple[World, str] | None:
        """The true translation of this clip for a prompt: the edited world and its style.

        ``None`` where the prompt leaves the demo world's language or counts other sprites. A
        prompt without a style asks for a photo.
        """
        said = captions.read(prompt)
        if said is None or len(said.nouns) != len(self.sentence.nouns):
            return None
        return self.edited(said.nouns, said.background), said.style or "photo"

    @cached_property
    def _grid(self) -> tuple[Array, Array]:
        y, x = np.mgrid[: self.size[0], : self.size[1]].astype(np.float32)
        return x, y

    @property
    def _unit(self) -> float:
        """Pixels per reference pixel."""
        return min(self.size) / 128

    def _shot(self, index: int) -> int:
        return int(self.motion == "cut" and index >= self.frames // 2)

    def _scene(self, index: int) -> tuple[tuple[Sprite, ...], float, float]:
        return self._scenes[self._shot(index)]

    @cached_property
    def _scenes(self) -> tuple[tuple[tuple[Sprite, ...], float, float], ...]:
        """Per shot: the sprites from back to front, the background's phase, its horizon."""
        return tuple(self._layout(shot) for shot in range(1 + (self.motion == "cut")))

    def _layout(self, shot: int) -> tuple[tuple[Sprite, ...], float, float]:
        rng = np.random.default_rng([self.seed, 1 + shot])
        nouns = self.sentence.nouns
        turn = rng.uniform(0, 2 * np.pi)
        placed = tuple(
            self._place(rng, colour, subject, len(nouns), turn + 2 * np.pi * i / len(nouns))
            for i, (colour, subject) in enumerate(nouns)
        )
        return placed, float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(-10, 14))

    def _place(
        self, rng: np.random.Generator, colour: str, subject: str, count: int, bearing: float
    ) -> Sprite:
        """Sprites stand round the centre, so that they overlap while they move, not always."""
        away = 0.0 if count == 1 else 26.0
        jitter = rng.uniform(-6, 6, 2) if count > 1 else rng.uniform(-16, 16, 2)
        cross = self.motion == "crossing"
        return Sprite(
            colour,
            subject,
            radius=float(rng.uniform(*_RADII[count])),
            centre=(
                float((0 if cross else away * np.cos(bearing)) + jitter[0]),
                float(0.8 * away * np.sin(bearing) + jitter[1]),
            ),
            swing=(34.0, 3.0) if cross else (float(rng.uniform(8, 18)), float(rng.uniform(4, 12))),
            phase=float(bearing if cross else rng.uniform(0, 2 * np.pi)),
            tempo=float(_SPEED[self.motion] * rng.uniform(0.8, 1.2)),
        )

    def _camera(self, index: int) -> float:
        return float(1.2 - 0.25 * np.cos(0.06 * index)) if self.motion == "zoom" else 1.0

    def _background_pose(self, index: int) -> Pose:
        horizon = self._scene(index)[2]
        zoom = self._camera(index)
        drift = {"fast": 1.6, "crossing": 0.5}.get(self.motion, 0.6) * (1 - 2 * (self.seed % 2))
        height, width = self.size
        centre = (
            (width - 1) / 2 + zoom * drift * index * self._unit,
            (height - 1) / 2 + zoom * (horizon + 3 * np.sin(0.07 * index)) * self._unit,
        )
        return Pose(centre, zoom * self._unit, 0.0)

    def _poses(self, index: int) -> list[tuple[Sprite, Pose]]:
        """Every sprite and where it is, from back to front."""
        return [(sprite, self._pose(sprite, index)) for sprite in self._scene(index)[0]]

    def _pose(self, sprite: Sprite, index: int) -> Pose:
        beat = sprite.tempo * index + sprite.phase
        zoom = self._camera(index)
        height, width = self.size
        x = sprite.centre[0] + sprite.swing[0] * np.sin(beat)
        y = sprite.centre[1] + sprite.swing[1] * np.cos(0.9 * beat)
        centre = (
            float((width - 1) / 2 + zoom * x * width / 128),
            float((height - 1) / 2 + zoom * y * height / 128),
        )
        size = sprite.radius * zoom * self._unit * (1 + 0.08 * np.sin(0.7 * beat))
        return Pose(centre, float(size), float(0.3 * np.sin(0.8 * beat + sprite.phase)))

    def _surfaces(self, index: int) -> list[Pose]:
        return [self._background_pose(index), *(pose for _, pose in self._poses(index))]

    def _owner(self, index: int, x: Array, y: Array) -> Array:
        """Which surface is on top at image points: 0 the background, then sprites back to front."""
        owner = np.zeros_like(x)
        for layer, (sprite, pose) in enumerate(self._poses(index), 1):
            owner[sprites.distance(sprite.subject, *pose.to_own(x, y)) < 0] = layer
        return owner


def _window(gap: Array, margin: float = 2.0) -> tuple[slice, slice]:
    """Rows and columns that hold every pixel nearer than ``margin`` pixels to a sprite."""
    near = gap < margin
    return _span(near.any(1)), _span(near.any(0))


def _span(hit: Array) -> slice:
    where = np.flatnonzero(hit)
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0, 0)


def _sprite_surface(sprite: Sprite, u: Array, v: Array, gap: Array) -> Surface:
    radius = np.float32(sprite.radius)
    return Surface(
        u * radius,
        v * radius,
        -gap,
        lambda a, b: sprites.albedo(
            sprite.subject, sprite.colour, sprite.phase, a / radius, b / radius
        ),
    )


def _as_flow(dx: Array, dy: Array, occluded: Array) -> Flow:
    offset = torch.from_numpy(np.stack([dx, dy]).astype(np.float32))[None]
    return Flow(offset, torch.from_numpy(np.asarray(occluded, np.float32))[None, None])


__all__ = ["BACKGROUNDS", "COLOURS", "HELD_OUT", "MOTIONS", "STYLES", "SUBJECTS", "World"]
