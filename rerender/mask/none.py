"""No mask: the whole frame is restyled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rerender.contracts import FlowEstimator, Mask
from rerender.video import Video


@dataclass(frozen=True)
class Everywhere(Mask):
    """The region is the whole frame."""

    def regions(self, video: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        return (torch.ones(1, *video.size) for _ in range(len(video)))

    def composite(
        self, frames: Iterable[Tensor], video: Video, flow: FlowEstimator, first: int = 0
    ) -> Iterator[Tensor]:
        return iter(frames)
