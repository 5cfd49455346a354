"""Training and test material drawn from the demo world.

Everything is a function of a seed and a number, so a resumed training sees what an unbroken one
would have seen. Training draws world seeds below ``HELD_OUT``, evaluation from it on.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from rerender.demo.captions import COLOURS, STYLES
from rerender.demo.world import HELD_OUT, MOTIONS, World

BLUR, LOW, HIGH = 1.2, 25, 60  # the demo model's Canny: sigma in pixels, thresholds of cv2.Canny


def edges(photo: Tensor) -> Tensor:
    """The control image ``[1,H,W]`` of 0 and 1: Canny of a photo frame ``[3,H,W]`` in 0..1."""
    pixels = (photo.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), BLUR)
    return torch.from_numpy(cv2.Canny(grey, LOW, HIGH) > 0).float()[None]


def scene(rng: np.random.Generator, held_out: bool = False) -> tuple[World, int]:
    """A clip and one of its frames."""
    seed = int(rng.integers(HELD_OUT)) + held_out * HELD_OUT
    motion = str(rng.choice(MOTIONS))
    return World(seed, motion=motion), int(rng.integers(41))


def picture(rng: np.random.Generator) -> tuple[Tensor, str, Tensor]:
    """One styled frame ``[3,H,W]``, its prompt, and the control image of its photo."""
    world, index = scene(rng)
    style = str(rng.choice(STYLES))
    photo = world.frame(index)
    styled = photo if style == "photo" else world.frame(index, style)
    return styled, world.prompt(style), edges(photo)


def pictures(seed: int, first: int, count: int) -> tuple[Tensor, list[str], Tensor]:
    """``count`` pictures from number ``first`` on: frames, prompts, control images."""
    drawn = [picture(np.random.default_rng([seed, first + i])) for i in range(count)]
    frames, prompts, maps = zip(*drawn, strict=True)
    return torch.stack(frames), list(prompts), torch.stack(maps)


def frames(seed: int, first: int, count: int) -> Tensor:
    """Only the frames of ``pictures``, without the cost of the control images."""
    drawn = (np.random.default_rng([seed, first + i]) for i in range(count))
    return torch.stack([_frame(rng) for rng in drawn])


def _frame(rng: np.random.Generator) -> Tensor:
    world, index = scene(rng)
    return world.frame(index, str(rng.choice(STYLES)))


def look_alikes(seed: int, number: int, count: int) -> tuple[Tensor, list[str]]:
    """A batch for contrast: its pictures differ in little, by turns in style, colour or scene."""
    rng = np.random.default_rng([seed, number])
    kind = number % 3
    shown: list[tuple[World, int, str]] = []
    style = str(rng.choice(STYLES))
    while len(shown) < count:
        world, index = scene(rng)
        if kind == 0:
            shown += [(world, index, style) for style in STYLES]
        elif kind == 1:
            shown += [(other, index, style) for other in _recoloured(world, rng)]
        else:
            shown.append((world, index, style))
    shown = shown[:count]
    return (
        torch.stack([world.frame(index, style) for world, index, style in shown]),
        [world.prompt(style) for world, _, style in shown],
    )


def _recoloured(world: World, rng: np.random.Generator) -> list[World]:
    """The world with one of its sprites in every colour that no other sprite has."""
    nouns = list(world.sentence.nouns)
    which = int(rng.integers(len(nouns)))
    taken = {colour for i, (colour, _) in enumerate(nouns) if i != which}
    return [
        world.edited((*nouns[:which], (colour, nouns[which][1]), *nouns[which + 1 :]))
        for colour in COLOURS
        if colour not in taken
    ]


# CLIP's own published statistics, so that the same preprocessing serves every CLIP.
_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
_DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def pixel_values(frames: Tensor) -> Tensor:
    """Frames ``[N,3,H,W]`` in 0..1 as CLIP expects them."""
    return (frames - _MEAN) / _DEVIATION


def previewed(count: int) -> tuple[Tensor, list[str], Tensor]:
    """Pictures for previews: held-out scenes, every style in turn."""
    drawn = [(World(HELD_OUT + i // 8), STYLES[i % 8]) for i in range(count)]
    frames = torch.stack([world.frame(7, style) for world, style in drawn])
    maps = torch.stack([edges(world.frame(7)) for world, _ in drawn])
    return frames, [world.prompt(style) for world, style in drawn], maps
