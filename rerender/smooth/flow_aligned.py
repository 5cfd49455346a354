"""A mean over time along the motion of the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Smooth
from rerender.flow.field import warp
from rerender.smooth._window import windows
from rerender.video import Video


@dataclass(frozen=True)
class FlowAligned(Smooth):
    """Warps the neighbours of each frame onto it by source flow and averages what is visible.

    A neighbour at distance d weighs ``exp(-d^2 / (2 sigma^2))``, nothing where the frame is hidden
    in it, so neither motion nor a scene cut is smeared.

    Attributes:
        radius: frames on each side.
        sigma: standard deviation of the weights in frames.
    """

    radius: Annotated[int, Field(ge=1, le=10)] = 1
    sigma: Annotated[float, Field(gt=0)] = 1.0

    def run(self, frames: Iterable[Tensor], source: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        for index, first, images in windows(frames, self.radius):
            yield self.average(index, first, images, source, flow)

    def average(
        self, index: int, first: int, images: Sequence[Tensor], source: Video, flow: FlowEstimator
    ) -> Tensor:
        """Frame ``index`` with its neighbours, the first of which is frame ``first``."""
        here = images[index - first]
        change, total = torch.zeros_like(here), torch.ones_like(here[:1])
        for other, image in enumerate(images, start=first):
            if other == index:
                continue
            seen = flow.between(source.frame(index), source.frame(other))
            inside = warp(torch.ones_like(seen.occluded), seen.offset)
            weight = ((1 - seen.occluded) * inside)[0] * exp(
                -0.5 * ((other - index) / self.sigma) ** 2
            )
            change += weight * (seen.warp(image, outside="border") - here)
            total += weight
        return here + change / total
