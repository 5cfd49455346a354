"""A Gaussian mean over time at each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Smooth
from rerender.smooth._window import windows
from rerender.video import Video


@dataclass(frozen=True)
class Gaussian(Smooth):
    """Averages each pixel over time with Gaussian weights; it does not follow motion.

    The window ends at three sigmas and is cut, with weights that still sum to 1, at both ends of
    the clip.

    Attributes:
        sigma: standard deviation in frames.
    """

    sigma: Annotated[float, Field(gt=0, le=25)] = 1.0

    def run(self, frames: Iterable[Tensor], source: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        for index, first, images in windows(frames, ceil(3 * self.sigma)):
            distance = torch.arange(first, first + len(images)) - index
            weights = torch.softmax(-distance.square() / (2 * self.sigma**2), 0).tolist()
            # Differences to the frame itself: a still clip stays exactly as it is.
            here = images[index - first]
            changes = (w * (image - here) for w, image in zip(weights, images, strict=True))
            yield here + sum(changes, torch.zeros_like(here))
