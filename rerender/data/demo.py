"""Clips of the demo world: drawn by rule, so that their motion and true translation are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from rerender.contracts import Data
from rerender.data.shard import share
from rerender.demo.world import HELD_OUT, MOTIONS, STYLES, World
from rerender.errors import ConfigError
from rerender.flow.field import Flow
from rerender.kinds import Word
from rerender.video import Clip, Video, sha256_of

_KEPT = 16
_RATE = Fraction(25)


@dataclass(frozen=True)
class Demo(Data):
    """Procedural clips.

    Attributes:
        seeds: one clip for each seed; those from 1000000 on were never trained on.
        motion: what moves how: slow, fast, crossing, zoom or cut.
        frames: number of frames.
        every: take every so many of the world's frames, so that neighbours are as far apart as key
            frames: the protocol of the paper's Table 2.
        size: side in pixels at which clips are processed.
        drawn: side in pixels of the square frames as they are drawn; None is ``size``.
        output: the size of results: "model" is ``size``, "source" that of the drawn frames.
        prompt: what the results should show; None asks for each clip's own content in a style.
        style: the style that clips without a prompt are asked for.
        source_prompt: what the sources show; "" takes the true caption.
        negative_prompt: what the results should not show.
        shard: "i/n" for the i-th of n shares of the clips, from 0; None for all.

    Raises:
        ConfigError: an unknown motion or style, no or twice the same seed, or a shard that is none.
    """

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (HELD_OUT,)
    motion: Word = "slow"
    frames: Annotated[int, Field(ge=1, le=10_000)] = 41
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    size: Annotated[int, Field(ge=16, le=1024)] = 128
    drawn: Annotated[int, Field(ge=16, le=2048)] | None = None
    output: Literal["model", "source"] = "model"
    prompt: str | None = None
    source_prompt: str = ""
    negative_prompt: str = ""
    shard: Word | None = None
    style: Word = "oil"

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS:
            cure = f"choose one of {', '.join(MOTIONS)}"
            raise ConfigError("data.motion", f"unknown motion {self.motion!r}", cure)
        if self.style not in STYLES:
            cure = f"choose one of {', '.join(STYLES)}"
            raise ConfigError("data.style", f"unknown style {self.style!r}", cure)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            problem = f"at least one is needed and each only once, received {list(self.seeds)}"
            raise ConfigError("data.seeds", problem, "correct the list")
        share(self.seeds, self.shard)

    def clips(self) -> Sequence[Clip]:
        return [self._clip(seed) for seed in share(self.seeds, self.shard)]

    def _clip(self, seed: int) -> Clip:
        drawn = (self.frames - 1) * self.every + 1
        side = self.drawn or self.size
        world = World(seed, drawn, (side, side), self.motion)
        prompt = world.prompt(self.style) if self.prompt is None else self.prompt
        return Clip(
            f"demo-{self.motion}-{seed}",
            DemoVideo(world, self.every),
            prompt,
            self.source_prompt or world.caption,
            self.negative_prompt,
            DemoTruth(world, prompt, self.every),
        )


class DemoVideo(Video):
    """The frames of a world, or every so many of them, drawn when asked for."""

    def __init__(self, world: World, every: int = 1) -> None:
        self._world, self._every = world, every
        self._draw = lru_cache(_KEPT)(world.frame)

    @property
    def size(self) -> tuple[int, int]:
        return self._world.size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return tuple(index / _RATE for index in range(0, self._world.frames, self._every))

    def digest(self) -> str:
        return sha256_of(repr((self._world, self.timestamps)).encode())

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self._draw(index * self._every)


@dataclass(frozen=True)
class DemoTruth:
    """The true motion of a world, and the world as a prompt asks for it."""

    world: World
    prompt: str
    every: int = 1

    def flow(self, target: int, source: int) -> Flow:
        """The exact flow between two frames, with exact occlusion."""
        return self.world.flow(target * self.every, source * self.every)

    def translation(self, index: int) -> Tensor | None:
        """The frame as the prompt asks for it; None where the prompt leaves the world's words."""
        if self._edited is None:
            return None
        world, style = self._edited
        return world.frame(index * self.every, style)

    @cached_property
    def _edited(self) -> tuple[World, str] | None:
        return self.world.translation(self.prompt)
