"""The nearest key frame warped to each frame of a segment."""

from __future__ import annotations

from collections.abc import Iterator

import cv2

from rerender.contracts import FlowEstimator
from rerender.flow._sample import sample
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import Links, follow, link
from rerender.propagation.motion.pixels import Pixels
from rerender.video import Frame, Segment


def nearest(segment: Segment, flow: FlowEstimator) -> Iterator[tuple[int, Pixels]]:
    """Index and picture in levels of each frame, in order, of the key frame nearest in time (see
    `rerender.video.Segment.nearest`)."""
    links = link(segment, flow)
    frames = range(segment.start, segment.stop)
    middle = segment.start + sum(segment.nearest(index) is segment.left for index in frames)
    before, after = range(segment.start, middle), range(middle, segment.stop)
    if segment.left is not None:
        yield from warped(segment, segment.left, before, links, flow)
    if segment.right is not None:
        yield from reversed(list(warped(segment, segment.right, after[::-1], links, flow)))


def warped(
    segment: Segment, key: Frame, frames: range, links: Links, flow: FlowEstimator
) -> Iterator[tuple[int, Pixels]]:
    """One key frame warped to frames that lead away from it."""
    style = pixels.levels(key.image)
    for stop in follow(segment.video, key.index, frames, links, flow):
        yield stop.index, sample(style, stop.motion.offset, cv2.INTER_CUBIC)
