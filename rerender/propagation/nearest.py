"""The nearest key frame, warped by flow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.propagation.motion import halves, pixels
from rerender.video import Segment


@dataclass(frozen=True)
class Nearest(Propagation):
    """Warps the key frame nearest in time; the look jumps half way between key frames.

    One side only, and nothing is done where the frame shows what its key frame does not.
    """

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        for _, picture in halves.nearest(segment, flow):
            yield pixels.image(picture)
