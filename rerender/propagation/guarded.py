"""A method for where flow can be trusted, and a safer one for where it cannot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.propagation.workers import workers
from rerender.video import Segment, Video

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guarded(Propagation):
    """Judges flow by forward-backward consistency before it is relied on.

    Between two key frames a segment is judged as a whole. After the last key frame of a shot it is
    judged frame by frame, and what follows a pair that fails is filled by the safer method.

    Attributes:
        method: fills what has consistent flow.
        safer: fills what has not.
        least: share of pixels that must find back, in the worst pair of neighbouring frames.
    """

    method: Propagation
    safer: Propagation
    least: Annotated[float, Field(ge=0, le=1)] = 0.5

    def check(self) -> None:
        self.method.check()
        self.safer.check()

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        if segment.right is None:
            yield from self.watched(segment, flow)
            return
        first = segment.start if segment.left is None else segment.left.index
        pairs = range(first, segment.right.index)
        rough = flow.rough()
        worst = min(workers().map(lambda index: quality(segment.video, index, rough), pairs))
        if worst < self.least:
            self.warn(segment, worst)
        yield from (self.method if worst >= self.least else self.safer).fill(segment, flow)

    def watched(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        """The frames after a key frame, one at a time, up to the first pair that fails by the
        method and from there on by the safer one."""
        images, rough = self.method.fill(segment, flow), flow.rough()
        for index in range(segment.start, segment.stop):
            share = quality(segment.video, index - 1, rough)
            if share < self.least:
                rest = replace(segment, start=index)
                self.warn(rest, share)
                yield from self.safer.fill(rest, flow)
                return
            yield next(images)

    def warn(self, segment: Segment, share: float) -> None:
        """Say which frames are filled by the safer method, and why."""
        LOG.warning(
            "frames %d-%d: flow finds back only %.1f %% of pixels, filled by %s",
            *(segment.start, segment.stop - 1, 100 * share, type(self.safer).__name__),
        )


def quality(video: Video, index: int, flow: FlowEstimator) -> float:
    """The share of pixels that find back both ways between a frame and the next one, 0..1."""
    there, back = flow.pair(video.frame(index), video.frame(index + 1))
    share = 1 - float(max(there.occluded.mean(), back.occluded.mean()))
    LOG.info("flow %d-%d: %.1f %% of pixels find back", index, index + 1, 100 * share)
    return share
