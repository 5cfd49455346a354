"""A median over time at each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Smooth
from rerender.smooth._window import windows
from rerender.video import Video


@dataclass(frozen=True)
class Median(Smooth):
    """Takes the median of each pixel and channel over time; it does not follow motion.

    Removes what is seen for no more than ``radius`` frames of ``2 * radius + 1``. Near the ends of
    the clip the window shrinks on both sides, so that it stays centred.

    Attributes:
        radius: frames on each side.
    """

    radius: Annotated[int, Field(ge=1, le=25)] = 1

    def run(self, frames: Iterable[Tensor], source: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        for index, first, images in windows(frames, self.radius):
            before, after = index - first, first + len(images) - 1 - index
            reach = min(before, after)
            centred = images[before - reach : before + reach + 1]
            yield torch.stack(centred).median(dim=0).values
