"""Patch-based synthesis as published: pyramid, random start, hundreds of candidates per pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.propagation.blending.blend import Blend, Guess
from rerender.propagation.blending.contrast import Contrast
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches import published_kernels as kernels
from rerender.propagation.patches.cubic import paired
from rerender.propagation.patches.guides import Guides, edges
from rerender.propagation.patches.kernels import Matches
from rerender.propagation.patches.synthesis import Images, synthesised
from rerender.propagation.patches.votes import vote
from rerender.video import Segment

COARSEST = 11
"""The pyramid ends before the smaller side drops below this (twice the patch and one)."""


@dataclass(frozen=True)
class Published(Propagation):
    """StyLit/EbSynth synthesis (Fišer et al. 2016; Jamriška et al. 2019; paper section 4.2).

    Hundreds of times slower than `patchmatch` and not better: it is here to show what the speed
    costs. Flow only guides. Where the published code fills holes of its guides by inpainting, the
    position guide follows the flow; chains start from the nearest pixel as there.

    Attributes:
        guides: weights of what patches are compared by.
        votes: rounds of search and vote on each level.
        sweeps: passes of search in a round.
        uniformity: cost of using a part of the key frame more often than the rest.
        blend: how the two directions become one.
    """

    guides: Guides = field(default_factory=Guides)
    votes: Annotated[int, Field(ge=1, le=100)] = 12
    sweeps: Annotated[int, Field(ge=1, le=100)] = 6
    uniformity: Annotated[float, Field(ge=0)] = 3500.0
    blend: Blend = field(default_factory=Contrast)

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        yield from synthesised(segment, flow, self.blend, self.synthesise)

    def synthesise(self, images: Images, frame: int) -> Guess:
        """One frame, from the coarsest level to the finest."""
        matches = np.zeros((0, 0, 2), np.int16)
        for depth in reversed(range(levels(images.style))):
            level = reduced(images, depth)
            seed = 100_000 * frame + 1000 * depth
            matches = start(matches, level.style, seed)
            guess = self.level(level, matches, seed)
        return guess

    def level(self, images: Images, matches: Matches, seed: int) -> Guess:
        """Rounds of search and vote on one level; ``matches`` are improved in place."""
        guides, (height, width, _) = self.guides, images.style.shape
        still = np.zeros((height, width, 2), np.float32)
        source = guides.pack(images.style, images.source, edges(images.source), still).packed
        edge, costs = edges(images.target), np.empty((height, width), np.int32)
        uses = np.empty((height + 4, width + 4), np.int32)
        uniformity = self.uniformity / guides.unit
        estimate = voted(images.style, matches)
        for turn in range(self.votes):
            style = guides.towards(estimate, images.before)
            target = guides.pack(style, images.target, edge, images.offset).packed
            flat = source.reshape(-1), target.reshape(-1)
            kernels.account(*flat, matches, costs, uses)
            for sweep in range(self.sweeps):
                plan = kernels.Level(width, uniformity, seed + turn * self.sweeps + sweep)
                kernels.search(*flat, plan, matches, costs, uses)
            estimate = voted(images.style, matches)
        # From summed packed bytes to the mean squared level of a colour channel.
        scale = np.float32(guides.unit / (25 * guides.colour))
        return Guess(estimate, costs.astype(np.float32) * scale)


def reduced(images: Images, depth: int) -> Images:
    """The images at ``1 / 2**depth`` of their size."""
    height, width, _ = images.style.shape
    size = (max(width >> depth, 1), max(height >> depth, 1))
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    style, source, before, target, offset = (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        for image in (images.style, images.source, images.before, images.target, images.offset)
    )
    return Images(style, source, before, target, offset * scale)


def levels(image: Pixels) -> int:
    """How many levels the pyramid of an image has."""
    side, count = min(image.shape[:2]), 1
    while side // 2 >= COARSEST:
        side, count = side // 2, count + 1
    return count


def start(coarse: Matches, like: Pixels, seed: int) -> Matches:
    """Random matches on the coarsest level, the doubled ones of the level above on others."""
    height, width, _ = like.shape
    matches = np.empty((height, width, 2), np.int16)
    if not len(coarse):
        kernels.guess(seed, matches)
        return matches
    y, x = np.mgrid[:height, :width]
    above = coarse[np.minimum(y // 2, len(coarse) - 1), np.minimum(x // 2, coarse.shape[1] - 1)]
    matches[..., 0] = np.minimum(2 * above[..., 0] + x % 2, width - 1)
    matches[..., 1] = np.minimum(2 * above[..., 1] + y % 2, height - 1)
    return matches


def voted(style: Pixels, matches: Matches) -> Pixels:
    """The mean of all patches over each pixel, in whole levels."""
    result = vote(paired(style, style), matches, style).image
    return np.rint(result, out=result)
