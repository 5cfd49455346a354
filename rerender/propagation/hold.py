"""Every frame shows the nearest key frame: what any other propagation must beat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.video import Segment


@dataclass(frozen=True)
class Hold(Propagation):
    """Repeats the key frame nearest in time, the earlier one at equal distance; flow is not used.

    A baseline without motion: it shows how much the clip moves between key frames.
    """

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        for index in range(segment.start, segment.stop):
            yield segment.nearest(index).image.clamp(0, 1)
