"""The tasks of a benchmark: a clip of the demo world and one edit of it whose truth is known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from rerender.data.demo import DemoTruth, DemoVideo
from rerender.demo import captions
from rerender.demo.captions import BACKGROUNDS, COLOURS, STYLES, SUBJECTS
from rerender.demo.world import HELD_OUT, MOTIONS, World
from rerender.files import levels
from rerender.video import Clip

KINDS = ("style", "object", "background", "multiple")
RATE = 25
FIRST = HELD_OUT + 2000  # seed of the first public clip; no other figure of ours uses these


@dataclass(frozen=True)
class EditTask:
    """One clip and what is asked of it.

    Attributes:
        name: of the clip.
        kind: what the prompt changes: one of ``KINDS``.
        seed, motion: the world.
        frames, size: length, and side of the square frames in pixels.
    """

    name: str
    kind: str
    seed: int
    motion: str
    frames: int
    size: int

    @property
    def world(self) -> World:
        """The source."""
        return World(self.seed, self.frames, (self.size, self.size), self.motion)

    @property
    def prompt(self) -> str:
        """What the result should show; drawn from the seed, always with a true translation."""
        rng = np.random.default_rng([self.seed, 1])
        said = self.world.sentence
        nouns, background, style = said.nouns, said.background, None
        if self.kind in ("object", "multiple"):
            # Each sprite gets another colour and another subject, and no two get the same.
            nouns = tuple(
                zip(
                    _others(rng, COLOURS, [colour for colour, _ in nouns]),
                    _others(rng, SUBJECTS, [subject for _, subject in nouns]),
                    strict=True,
                )
            )
        if self.kind in ("background", "multiple"):
            (background,) = _others(rng, BACKGROUNDS, [background])
        if self.kind in ("style", "multiple"):
            style = str(rng.choice([name for name in STYLES if name != "photo"]))
        return captions.write(said._replace(nouns=nouns, background=background, style=style))

    def clip(self) -> Clip:
        """The task as a clip with its truth."""
        world, prompt = self.world, self.prompt
        truth = DemoTruth(world, prompt)
        return Clip(self.name, DemoVideo(world), prompt, world.caption, truth=truth)

    def editable(self, index: int) -> Tensor:
        """Where the prompt allows a change in a frame, ``[1,H,W]`` in 0..1: the background, what
        the sprites cover before and after, or all of it; the truth is the source elsewhere."""
        edited = self.world.translation(self.prompt)
        assert edited is not None, self.prompt
        before, after = self.world.layers(index), edited[0].layers(index)
        frames = self.world.frame(index), edited[0].frame(index, edited[1])
        # The soft edge of a sprite is wider than the sprite.
        changed = (levels(frames[0]) != levels(frames[1])).any(0)
        if self.kind == "object":
            changed = changed | (before > 0) | (after > 0)
        elif self.kind == "background":
            changed = changed | (before == 0)
        else:
            changed = torch.ones_like(changed)
        return changed.float()[None]

    def source(self) -> str:
        """The sha256 of the source as it is exported: its 8-bit RGB pixels, frame after frame."""
        total, world = hashlib.sha256(), self.world
        for index in range(self.frames):
            total.update(pixels(world.frame(index)))
        return total.hexdigest()

    def commitment(self, nonce: str) -> str:
        """A hash that fixes a hidden task and does not tell it."""
        text = json.dumps([nonce, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def pixels(image: Tensor) -> bytes:
    """An image ``[3,H,W]`` in 0..1 as H x W x 3 bytes."""
    return levels(image).permute(1, 2, 0).contiguous().numpy().tobytes()


def _others(rng: np.random.Generator, words: tuple[str, ...], now: list[str]) -> list[str]:
    """Another word in place of each, all different."""
    while True:
        drawn = [str(word) for word in rng.permutation(words)[: len(now)]]
        if not any(new == old for new, old in zip(drawn, now, strict=True)):
            return drawn


def public(count: int, frames: int, size: int) -> list[EditTask]:
    """Tasks that everybody knows: kinds and motions by turns."""
    return [
        _task(f"{{kind}}-{{motion}}-{FIRST + number}", FIRST + number, number, frames, size)
        for number in range(count)
    ]


def hidden(seeds: list[int], frames: int, size: int) -> list[EditTask]:
    """Tasks whose seeds only the organiser knows."""
    return [
        _task(f"hidden-{number:03d}", seed, number, frames, size)
        for number, seed in enumerate(seeds)
    ]


def _task(name: str, seed: int, number: int, frames: int, size: int) -> EditTask:
    # Five motions and four kinds have no common divisor: all twenty come before one comes again.
    kind, motion = KINDS[number % len(KINDS)], MOTIONS[number % len(MOTIONS)]
    return EditTask(name.format(kind=kind, motion=motion), kind, seed, motion, frames, size)
