"""Procedural clips about which everything is known: frames, flow, occlusion, translations.

One to four sprites move, turn and scale over a panning background. A pixel belongs to the
topmost sprite whose outline contains it; styles and colours change how surfaces are painted and
never where they are, so one flow is true for every translation of the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender.demo import captions, scenery, sprites
from rerender.demo.captions import BACKGROUNDS, COLOURS, STYLES, SUBJECTS, Sentence
from rerender.demo.motion import MOTIONS, CameraPath, Pose, SceneLayout, Sprite, shot
from rerender.demo.sprites import Array
from rerender.demo.styles import Surface, paint
from rerender.flow.field import Flow

HELD_OUT = 1_000_000  # seeds from here on are never trained on
_FAR = 1e6
Painter: TypeAlias = Callable[[str, Surface], Array]


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

    def frame(self, index: int, style: str = "photo", painter: Painter = paint) -> Tensor:
        """Frame ``index`` in a style, ``[3,H,W]`` float32 RGB in 0..1; ``painter`` colours each
        of its surfaces."""
        x, y = self._grid
        unit = self._stage.unit
        u, v = self._surfaces(index)[0].to_own(x, y)
        name, phase = self.sentence.background, self._shot(index).phase
        surface = Surface(
            u, v, np.full_like(u, _FAR), lambda u, v: scenery.albedo(name, phase, u, v)
        )
        image = painter(style, surface)
        for sprite, pose in self._poses(index):
            u, v = pose.to_own(x, y)
            gap = sprites.distance(sprite.subject, u, v) * np.float32(sprite.radius)
            rows, columns = _window(gap * unit)
            u, v, gap = (part[rows, columns] for part in (u, v, gap))
            painted = painter(style, _sprite_surface(sprite, u, v, gap))
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
        if self._shot(target) is not self._shot(source):
            return _as_flow(np.zeros_like(x), np.zeros_like(x), np.ones_like(x))
        for layer, (before, after) in enumerate(
            zip(self._surfaces(target), self._surfaces(source), strict=True)
        ):
            mine = owner == layer
            found_x[mine], found_y[mine] = after.to_image(*before.to_own(x[mine], y[mine]))
        inside = (found_x >= 0) & (found_x <= width - 1) & (found_y >= 0) & (found_y <= height - 1)
        seen = inside & (self._owner(source, found_x, found_y) == owner)
        return _as_flow(found_x - x, found_y - y, 1 - seen.astype(np.float32))

    def layers(self, index: int) -> Tensor:
        """What is on top at each pixel of a frame, ``[H,W]`` uint8: 0 the background, then the
        sprites from back to front."""
        return torch.from_numpy(self._owner(index, *self._grid).astype(np.uint8))

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

    @cached_property
    def _stage(self) -> SceneLayout:
        return SceneLayout(self.size, self.motion, leftwards=self.seed % 2 == 1)

    @cached_property
    def _shots(self) -> tuple[CameraPath, ...]:
        count = 2 if self.motion == "cut" else 1
        nouns = self.sentence.nouns
        return tuple(shot(self.seed, number, self.motion, nouns) for number in range(count))

    def _shot(self, index: int) -> CameraPath:
        return self._shots[self.motion == "cut" and index >= self.frames // 2]

    def _poses(self, index: int) -> list[tuple[Sprite, Pose]]:
        """Every sprite and where it is, from back to front."""
        cast = self._shot(index).sprites
        return [(sprite, self._stage.sprite(sprite, index)) for sprite in cast]

    def _surfaces(self, index: int) -> list[Pose]:
        """The background's pose, then the sprites' from back to front."""
        background = self._stage.background(self._shot(index), index)
        return [background, *(pose for _, pose in self._poses(index))]

    def _owner(self, index: int, x: Array, y: Array) -> Array:
        """Which surface is on top at image points: 0 the background, then sprites back to front."""
        owner = np.zeros_like(x)
        for layer, (sprite, pose) in enumerate(self._poses(index), 1):
            owner[sprites.distance(sprite.subject, *pose.to_own(x, y)) < 0] = layer
        return owner


def _window(gap: Array, margin: float = 2.0) -> tuple[slice, slice]:
    """Rows and columns that hold every pixel nearer than ``margin`` pixels to a sprite."""
    near = np.asarray(gap < margin)
    return _span(np.any(near, 1)), _span(np.any(near, 0))


def _span(hit: NDArray[np.bool_]) -> slice:
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
