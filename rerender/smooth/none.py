"""No filter: frames pass as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rerender.contracts import FlowEstimator, Smooth
from rerender.video import Video


@dataclass(frozen=True)
class Nothing(Smooth):
    """Hands every frame on untouched (the published method has no temporal filter)."""

    framewise: ClassVar[bool] = True

    def run(self, frames: Iterable[Tensor], source: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        return iter(frames)
