"""What the methods share that make each frame anew from patches of a key frame, guided by flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rerender.contracts import FlowEstimator
from rerender.flow._sample import sample
from rerender.propagation.blending.blend import Blend, Guess
from rerender.propagation.blending.sides import join
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import follow, link
from rerender.propagation.motion.pixels import Pixels
from rerender.video import Frame, Segment


@dataclass(frozen=True)
class Images:
    """What one frame is synthesised from.

    Attributes:
        style: the translated key frame.
        source: the source key frame.
        before: the frame synthesised last, moved to this one by its nearest pixels.
        target: the source frame.
        offset: ``[H,W,2]`` from the frame to the key frame.
    """

    style: Pixels
    source: Pixels
    before: Pixels
    target: Pixels
    offset: NDArray[np.float32]


Make = Callable[[Images, int], Guess]
"""``make(images, index)``: one frame and its error."""


def synthesised(
    segment: Segment, flow: FlowEstimator, blend: Blend, make: Make
) -> Iterator[Tensor]:
    """The frames of a segment ``[3,H,W]`` in 0..1, made one after the other from each key frame."""
    video, links = segment.video, link(segment, flow)

    def side(key: Frame, frames: Sequence[int]) -> Iterator[Guess]:
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        last = style
        for stop in follow(video, key.index, frames, links, flow):
            index, target, offset = stop.index, stop.target, stop.motion.offset
            before = sample(last, stop.link.offset, cv2.INTER_NEAREST)
            guess = make(Images(style, source, before, target, offset), index)
            yield guess
            last = guess.image

    yield from join(segment, side, blend, links)
