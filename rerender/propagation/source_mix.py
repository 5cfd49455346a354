"""The nearest key frame, warped by flow and averaged with the source frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.propagation.motion import halves, pixels
from rerender.video import Segment


@dataclass(frozen=True)
class SourceMix(Propagation):
    """A weighted mean of the warped nearest key frame and the source frame itself.

    The source shines through; key frames stay untouched, so the look pulses at their rate. The
    published method does nothing of this kind.

    Attributes:
        source: weight of the source frame.
    """

    source: Annotated[float, Field(ge=0, le=1)] = 0.3

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        for index, picture in halves.nearest(segment, flow):
            own = segment.video[index].to("cpu").float()
            yield pixels.image(picture).lerp(own, self.source).clamp_(0, 1)
