"""Motion from every frame of a segment to its key frames: a quick chain, then a direct look.

Long motions are followed in small steps between neighbours, which seldom fail; the sum drifts, so
the flow from the frame straight to the key frame is estimated from there, and refined at full
resolution. This gives the quality of the dear estimator everywhere at two thirds of its cost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rerender.contracts import FlowEstimator
from rerender.flow._sample import sample
from rerender.flow.field import Flow
from rerender.propagation.motion import pixels
from rerender.propagation.motion.exposure import Exposure
from rerender.propagation.motion.flashes import clipped, flashes
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.motion.variational import Refiner
from rerender.propagation.motion.workers import workers
from rerender.video import Frame, Segment, Video


@dataclass(frozen=True)
class FrameMotion:
    """Where each pixel of a frame is found in another one.

    Attributes:
        offset: ``[H,W,2]`` in pixels, (x, y).
        occluded: ``[H,W]`` in 0..1; 1 where it is not visible there. None where nobody asked.
    """

    offset: NDArray[np.float32]
    occluded: NDArray[np.float32] | None = None


class HalfMotion(NamedTuple):
    """A `FrameMotion` in half of its memory.

    Attributes:
        offset, occluded: in float16.
    """

    offset: NDArray[np.float16]
    occluded: NDArray[np.float16] | None

    @classmethod
    def of(cls, motion: FrameMotion) -> HalfMotion:
        """What is kept of a motion."""
        hidden = motion.occluded
        return cls(pixels.half(motion.offset), None if hidden is None else pixels.half(hidden))

    def whole(self) -> FrameMotion:
        """The motion again."""
        seen = None if self.occluded is None else pixels.single(self.occluded)
        return FrameMotion(pixels.single(self.offset), seen)


class Links(ABC):
    """Flow between the neighbouring frames of a segment."""

    @abstractmethod
    def before(self, index: int) -> FrameMotion:
        """From frame ``index`` to the frame before it."""

    @abstractmethod
    def after(self, index: int) -> FrameMotion:
        """From frame ``index`` to the frame after it."""

    def forget_after(self) -> None:
        """Let go of what only `after` gives: nobody asks for that any more."""
        return


@dataclass(frozen=True)
class KnownLinks(Links):
    """All of them, estimated beforehand and kept in half precision: what follows a chain of them
    only begins there, and two thousandths of a vector are lost in its error.

    Attributes:
        first: index of the frame the first link starts at.
        ahead: motion of each frame to the one after it.
        back: motion of each frame but the first to the one before it.
    """

    first: int
    ahead: list[HalfMotion]
    back: Sequence[HalfMotion]

    def before(self, index: int) -> FrameMotion:
        return self.back[index - 1 - self.first].whole()

    def after(self, index: int) -> FrameMotion:
        return self.ahead[index - self.first].whole()

    def forget_after(self) -> None:
        self.ahead.clear()


@dataclass(frozen=True)
class LiveLinks(Links):
    """Each estimated when it is asked for, and forgotten: a clip may go on for ever after its last
    key frame.

    Attributes:
        seen: whether occlusion is wanted.
    """

    video: Video
    flow: FlowEstimator
    seen: bool

    def before(self, index: int) -> FrameMotion:
        return self.step(index, index - 1)

    def after(self, index: int) -> FrameMotion:
        return self.step(index, index + 1)

    def step(self, index: int, other: int) -> FrameMotion:
        """From a frame to its neighbour."""
        here, there = self.video.frame(index), self.video.frame(other)
        if self.seen:
            return motion(self.flow.between(here, there))
        return FrameMotion(pixels.vectors(self.flow.offset(here, there)))


def link(segment: Segment, flow: FlowEstimator, seen: bool = False) -> Links:
    """The flow between all neighbours of a segment, its key frames included; over a flash it is
    even in time.

    Args:
        segment: the frames.
        flow: the estimator, of whose cheaper kind the links are made.
        seen: whether occlusion is wanted.
    """
    video, rough = segment.video, flow.rough()
    if segment.right is None:
        return LiveLinks(video, rough, seen)

    def pair(index: int, other: int) -> tuple[FrameMotion, FrameMotion]:
        here, there = video.frame(index), video.frame(other)
        if seen:
            away, home = rough.pair(here, there)
            return motion(away), motion(home)
        ahead, back = rough.offsets(here, there)
        return FrameMotion(pixels.vectors(ahead)), FrameMotion(pixels.vectors(back))

    def halves(index: int) -> tuple[HalfMotion, HalfMotion, float]:
        ahead, back = pair(index, index + 1)
        return HalfMotion.of(ahead), HalfMotion.of(back), clipped(video[index])

    first, last = segment.start if segment.left is None else segment.left.index, segment.right.index
    made = list(workers().map(halves, range(first, last)))
    ahead, back = [each[0] for each in made], [each[1] for each in made]
    for run in flashes([*(each[2] for each in made), clipped(video[last])]):
        start, count = run.start - 1, len(run) + 1
        there, home = pair(first + start, first + run.stop)
        for step in range(count):
            ahead[start + step] = HalfMotion.of(part(there, step, count))
            back[start + step] = HalfMotion.of(part(home, count - 1 - step, count))
    return KnownLinks(first, ahead, back)


def part(whole: FrameMotion, step: int, count: int) -> FrameMotion:
    """One of ``count`` equal steps of a motion, from where ``step`` of them have led to."""
    before = whole.offset * np.float32(-step / count)
    offset = sample(whole.offset, before) / np.float32(count)
    if whole.occluded is None:
        return FrameMotion(offset)
    return FrameMotion(offset, sample(whole.occluded, before))


def motion(flow: Flow) -> FrameMotion:
    """A flow as arrays."""
    return FrameMotion(pixels.vectors(flow.offset), pixels.plane(flow.occluded))


@dataclass(frozen=True)
class Step:
    """A frame on the way from a key frame.

    Attributes:
        index: of the frame.
        target: the source frame in levels.
        motion: from it to the key frame.
        link: from it to the frame one nearer to the key frame.
    """

    index: int
    target: Pixels
    motion: FrameMotion
    link: FrameMotion


def follow(
    video: Video, key: int, frames: Iterable[int], links: Links, flow: FlowEstimator
) -> Iterator[Step]:
    """The motion from each of ``frames`` to frame ``key``.

    Args:
        video: the source.
        key: the frame that is looked into.
        frames: indices that lead away from ``key`` one by one, on one side of it.
        links: flow between neighbours.
        flow: estimates the flow to the key frame, starting from the chain.
    """
    into = video.frame(key)
    source, found = pixels.levels(into.image), None
    refiner, exposure = Refiner(*source.shape[:2]), Exposure(source)
    for index in frames:
        step = links.before(index) if index > key else links.after(index)
        chained = step if found is None else chain(step, found)
        frame = video.frame(index)
        target = pixels.levels(frame.image)
        lit = exposure.levelled(target, chained.offset)
        if lit is not target:
            target, frame = lit, Frame(index, pixels.image(lit))
        direct = flow.offset(frame, into, pixels.offsets(chained.offset))
        offset = refiner.refine(source, target, pixels.vectors(direct))
        found = FrameMotion(offset, chained.occluded)
        done = Step(index, target, found, step)
        del step, chained, frame, target, lit, direct, offset  # the search comes first
        yield done
        del done


def chain(step: FrameMotion, rest: FrameMotion) -> FrameMotion:
    """One step, then the motion from there; hidden if either is."""
    offset = step.offset + sample(rest.offset, step.offset)
    if step.occluded is None or rest.occluded is None:
        return FrameMotion(offset)
    hidden = sample(rest.occluded, step.offset, border=1.0)
    return FrameMotion(offset, np.maximum(step.occluded, hidden))
