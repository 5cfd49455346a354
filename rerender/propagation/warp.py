"""Both key frames are warped by flow and fused where they agree with the source: the fast mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.propagation.blending.blend import Blend, Guess, Soft
from rerender.propagation.blending.sides import join
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import Links, follow, link
from rerender.propagation.patches.patch_flow import PatchFlow
from rerender.video import Frame, Segment, Video


@dataclass(frozen=True)
class Warp(Propagation):
    """Warps both neighbouring key frames and fuses them softly, aware of occlusion.

    The error that decides between the two is that of the *source* key frame warped the same way.
    Where it is large, flow has failed, and motion is looked for by patches (`PatchFlow`).

    Attributes:
        blend: how the two versions become one.
        occluded: error in levels that is added where the frame is hidden in the key frame.
        failed: error in levels from which on flow has failed.
    """

    blend: Blend = field(default_factory=Soft)
    occluded: Annotated[float, Field(ge=0)] = 20.0
    failed: Annotated[float, Field(gt=0, le=1000)] = 10.0

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        links = link(segment, flow, seen=True)

        def side(key: Frame, frames: Sequence[int]) -> Iterator[Guess]:
            return self.warped(segment.video, key, frames, links, flow)

        yield from join(segment, side, self.blend, links)

    def warped(
        self, video: Video, key: Frame, frames: Sequence[int], links: Links, flow: FlowEstimator
    ) -> Iterator[Guess]:
        """The key frame warped to each of the frames."""
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        patches = PatchFlow(style, source, self.failed)
        for stop in follow(video, key.index, frames, links, flow):
            found = patches.warped(stop.motion.offset, stop.target, stop.index)
            assert stop.motion.occluded is not None
            hidden = np.float32(self.occluded**2) * stop.motion.occluded
            yield Guess(found.image, found.error + hidden)
