"""Key frames where the others say least: chosen by what propagation would get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from rerender.contracts import FlowEstimator, KeyFrames
from rerender.flow.dis import Dis
from rerender.keyframes._cuts import Changes, shots
from rerender.keyframes._disagreement import Explanation, suggestions
from rerender.keyframes._settling import MARGIN, settled, spaced
from rerender.video import Video


@dataclass(frozen=True)
class Error(KeyFrames):
    """One key frame after the other where the source, carried from the key frames there are,
    explains the frames between them worst, until they are explained or the budget is spent. Where
    it is spent, as many evenly spaced ones are taken in their place, each moved between its
    neighbours while that leaves clearly less error, unless the chosen ones, moved too, leave
    clearly less than these. Those at the ends of the video are moved as well: frames beyond the
    outermost key frame are carried from one side.

    Attributes:
        tolerance: root mean squared error in levels of the worst explained frame at which no more
            are added.
        budget: the most key frames; a shot has one at each of its ends before any
            is added.
        sweeps: how often all of them are gone through and moved; 0 leaves them where they were.
        ratio, floor: of scene cuts, as of `SceneCut`.
        flow: estimates the motion of the source, at a short side of 128 pixels.
    """

    tolerance: Annotated[float, Field(ge=0, le=255)] = 4.0
    budget: Annotated[int, Field(ge=1, le=100_000)] = 1000
    sweeps: Annotated[int, Field(ge=0, le=20)] = 2
    ratio: Annotated[float, Field(ge=1, le=100)] = 4.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.04
    flow: FlowEstimator = field(default_factory=Dis)

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        cuts = Changes.of(video).cuts(self.ratio, self.floor)
        parts = shots(len(video), cuts)
        ends = sorted({end for shot in parts for end in (shot[0], shot[-1])})
        chosen: list[int] = []
        spent = False
        explanation = Explanation(video, cuts, self.flow)
        for found in suggestions(explanation, ends):
            spent = len(ends) + len(chosen) >= self.budget
            if spent or found.worst <= self.tolerance:
                break
            chosen.append(found.frame)
        keys = [*ends, *chosen]
        if spent and chosen and self.sweeps:
            at_cuts = sorted({frame for cut in cuts for frame in (cut - 1, cut)})

            def moved(begun: Sequence[int]) -> list[int]:
                movable = [key for key in begun if key not in at_cuts]
                return [*at_cuts, *settled(at_cuts, movable, explanation, self.sweeps)]

            even, uneven = moved(spaced(parts, len(keys))), moved(keys)
            clearly = explanation.left(uneven) < (1 - MARGIN) * explanation.left(even)
            keys = uneven if clearly else even
        return [sorted(key for key in keys if key in shot) for shot in parts]
