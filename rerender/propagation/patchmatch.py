"""Flow-started PatchMatch: patches verify flow, correct it, and search where it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.flow.sample import sample
from rerender.propagation import kernels, pixels
from rerender.propagation.blend import Blend, Guess, TwoBand
from rerender.propagation.chain import Links, follow, link
from rerender.propagation.guides import Guides, Packed, edges
from rerender.propagation.merge import error, merge
from rerender.propagation.pixels import Pixels
from rerender.propagation.sides import join
from rerender.video import Frame, Segment, Video


@dataclass(frozen=True)
class Search:
    """How far patches are looked for.

    Attributes:
        stride: pixels between patches; 1 is slower and hardly better.
        sweeps: passes over all patches.
        radii: random candidates of a pass, one within each radius in pixels.
        hard: cost of a patch, in squared levels of a colour channel, above which flow has failed.
        hard_sweeps: further passes over such patches only.
        hard_radii: their random candidates.
    """

    stride: Literal[1, 2] = 2
    sweeps: Annotated[int, Field(ge=0, le=100)] = 2
    radii: tuple[int, ...] = (1,)
    hard: Annotated[float, Field(ge=0)] = 65.0
    hard_sweeps: Annotated[int, Field(ge=0, le=100)] = 4
    hard_radii: tuple[int, ...] = (96, 32, 8, 2)


@dataclass(frozen=True)
class PatchMatch(Propagation):
    """Propagates both key frames by guided patch matching, started from flow (paper section 4.2).

    One level, no pyramid: the match of a patch is where refined flow points to, improved by a few
    candidates, by many only where its cost is high. Patches vote, the votes are merged with the
    warped key frame, and the two directions are blended. It stops early on purpose: the least
    energy fits noise (Barnes et al. 2009; Jamriška et al. 2019 search a hundred times longer).

    Attributes:
        guides: weights of what patches are compared by.
        search: how far they are looked for.
        tolerance: error in levels up to which warp and patches are equally good.
        blend: how the two directions become one.
    """

    guides: Guides = field(default_factory=Guides)
    search: Search = field(default_factory=Search)
    tolerance: Annotated[float, Field(gt=0)] = 3.0
    blend: Blend = field(default_factory=lambda: TwoBand(tolerance=4.0))

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        with ThreadPoolExecutor(2) as pool:
            links = link(segment, flow, pool)

            def side(key: Frame, frames: Sequence[int]) -> Iterator[Guess]:
                return self.matched(segment.video, key, frames, links, flow)

            yield from join(segment, side, self.blend, links, pool)

    def matched(
        self, video: Video, key: Frame, frames: Sequence[int], links: Links, flow: FlowEstimator
    ) -> Iterator[Guess]:
        """Each of the frames put together from patches of the key frame."""
        last: Pixels | None = None
        picture = Picture.of(key, video, self.guides)
        for stop in follow(video, key.index, frames, links, flow):
            index, target, motion = stop.index, stop.target, stop.motion
            warped = picture.warped(motion.offset, target)
            before = warped.image
            if last is not None:
                step = links.before(index) if index > key.index else links.after(index)
                before = sample(last, step.offset)
            estimate = self.guides.towards(warped.image, before)
            packed = self.guides.pack(estimate, target, edges(target), motion.offset)
            matches = self.match(picture.packed, packed, motion.offset, index)
            voted = picture.voted(matches, self.search.stride, target)
            merged = merge(warped, voted, self.tolerance)
            yield merged
            last = merged.image

    def match(
        self, source: Packed, target: Packed, offset: NDArray[np.float32], frame: int
    ) -> kernels.Matches:
        """The source pixel of each patch of a frame."""
        search, (height, width) = self.search, offset.shape[:2]
        grid = (-(-height // search.stride), -(-width // search.stride))
        matches, costs = np.empty((*grid, 2), np.int16), np.empty(grid, np.int32)
        flat = source.reshape(-1), target.reshape(-1)
        kernels.start(*flat, offset, search.stride, matches, costs)
        hard = int(search.hard * 25 * self.guides.colour / self.guides.unit)
        rounds = [(search.radii, -1)] * search.sweeps
        rounds += [(search.hard_radii, hard)] * search.hard_sweeps
        for turn, (radii, above) in enumerate(rounds):
            plan = kernels.Plan(width, search.stride, above, 1000 * frame + turn)
            kernels.sweep(*flat, plan, np.array(radii, np.int32), matches, costs)
        return matches


@dataclass(frozen=True)
class Picture:
    """A key frame in all the forms that propagation needs.

    Attributes:
        style: the translated key frame in levels.
        source: the source key frame in levels.
        packed: its guides.
        both: style and source ``[H+4,W+4,8]`` with a border of two repeated pixels; the last two
            channels are empty.
    """

    style: Pixels
    source: Pixels
    packed: Packed
    both: NDArray[np.float32]

    @classmethod
    def of(cls, key: Frame, video: Video, guides: Guides) -> Picture:
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        still = np.zeros((*style.shape[:2], 2), np.float32)
        both = np.pad(np.dstack([style, source, still]), ((2, 2), (2, 2), (0, 0)), "edge")
        return cls(style, source, guides.pack(style, source, edges(source), still), both)

    def warped(self, offset: NDArray[np.float32], target: Pixels) -> Guess:
        """The key frame warped by flow."""
        image = sample(self.style, offset, cv2.INTER_CUBIC)
        return Guess(image, error(sample(self.source, offset, cv2.INTER_CUBIC), target))

    def voted(self, matches: kernels.Matches, stride: int, target: Pixels) -> Guess:
        """The key frame put together from patches."""
        sums = kernels.vote(self.both, matches, stride)
        image, source = np.empty_like(target), np.empty_like(target)
        kernels.mean(sums, 0, stride, image)
        kernels.mean(sums, 3, stride, source)
        return Guess(image, error(source, target))
