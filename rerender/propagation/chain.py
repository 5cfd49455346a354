"""Motion from every frame of a segment to its key frames: a quick chain, then a direct look.

Long motions are followed in small steps between neighbours, which seldom fail; the sum drifts, so
the flow from the frame straight to the key frame is estimated from there. This gives the quality of
the dear estimator everywhere at two thirds of its cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.contracts import FlowEstimator
from rerender.flow.field import Flow
from rerender.propagation import pixels
from rerender.video import Segment, Video


@dataclass(frozen=True)
class Motion:
    """Where each pixel of a frame is found in another one.

    Attributes:
        offset: ``[H,W,2]`` in pixels, (x, y).
        occluded: ``[H,W]`` in 0..1; 1 where it is not visible there.
    """

    offset: NDArray[np.float32]
    occluded: NDArray[np.float32]


@dataclass(frozen=True)
class Links:
    """Flow between neighbouring frames from ``first`` on, both ways.

    Attributes:
        first: index of the frame the first link starts at.
        ahead: motion of each frame to the one after it.
        back: motion of each frame but the first to the one before it.
    """

    first: int
    ahead: Sequence[Motion]
    back: Sequence[Motion]

    def before(self, index: int) -> Motion:
        """From frame ``index`` to the frame before it."""
        return self.back[index - 1 - self.first]

    def after(self, index: int) -> Motion:
        """From frame ``index`` to the frame after it."""
        return self.ahead[index - self.first]


def link(segment: Segment, flow: FlowEstimator, pool: Executor) -> Links:
    """The flow between all neighbours of a segment, its key frames included."""
    first = segment.start if segment.left is None else segment.left.index
    last = segment.stop - 1 if segment.right is None else segment.right.index
    rough, video = flow.rough(), segment.video

    def pair(index: int) -> tuple[Motion, Motion]:
        there, back = rough.pair(video.frame(index), video.frame(index + 1))
        return motion(there), motion(back)

    pairs = list(pool.map(pair, range(first, last)))
    return Links(first, [there for there, _ in pairs], [back for _, back in pairs])


def motion(flow: Flow) -> Motion:
    """A flow as arrays."""
    return Motion(pixels.vectors(flow.offset), pixels.plane(flow.occluded))


def follow(
    video: Video, key: int, frames: Iterable[int], links: Links, flow: FlowEstimator
) -> list[Motion]:
    """The motion from each of ``frames`` to frame ``key``.

    Args:
        video: the source.
        key: the frame that is looked into.
        frames: indices that lead away from ``key`` one by one, on one side of it.
        links: flow between neighbours.
        flow: estimates the flow to the key frame, starting from the chain.
    """
    found: list[Motion] = []
    for index in frames:
        step = links.before(index) if index > key else links.after(index)
        chained = chain(step, found[-1]) if found else step
        start = pixels.offsets(chained.offset)
        direct = flow.offset(video.frame(index), video.frame(key), start)
        found.append(Motion(pixels.vectors(direct), chained.occluded))
    return found


def chain(step: Motion, rest: Motion) -> Motion:
    """One step, then the motion from there; hidden if either is."""
    occluded = np.maximum(step.occluded, sample(rest.occluded, step.offset, border=1.0))
    return Motion(step.offset + sample(rest.offset, step.offset), occluded)


def sample(
    values: NDArray[np.float32],
    offset: NDArray[np.float32],
    interpolation: int = cv2.INTER_LINEAR,
    border: float | None = None,
) -> NDArray[np.float32]:
    """``out(p) = values(p + offset(p))`` of ``[H,W]`` or ``[H,W,C]``.

    Outside the image the nearest pixel is taken, or the value ``border``.
    """
    where = grid(*offset.shape[:2]) + offset
    mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
    found: NDArray[np.float32] = cv2.remap(
        values, where, None, interpolation, borderMode=mode, borderValue=border or 0.0
    )
    return found


def grid(height: int, width: int) -> NDArray[np.float32]:
    """Coordinates (x, y) of every pixel, ``[H,W,2]``."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([x, y], axis=-1)
