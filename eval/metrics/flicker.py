"""Flicker: brightness that jumps forth and back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Trial
from rerender.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Flicker(Metric):
    """Second difference of the mean colour of the frame's cells, 0..4, mean over frames.

    ``|Y_t - 2 Y_t-1 + Y_t-2|``, mean over channels and a grid of cells, with ``Y`` a cell's mean.
    A steady change (a drift, a fade) gives 0 and an alternation by ``a`` gives ``2a``. Motion adds
    a little of its own: the source's row in the table is the floor.

    Attributes:
        cells: cells along each side.
    """

    version: ClassVar[str] = "2"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"

    cells: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.cells <= 64:
            raise ConfigError(
                "metrics.flicker.cells", f"must lie in 1..64, received {self.cells}", "use 4"
            )

    @property
    def looks_back(self) -> int:
        return 2

    def open(self, trial: Trial) -> Gauge:
        last: deque[Tensor] = deque(maxlen=3)

        def gauge(batch: Batch) -> Curve:
            curve: list[float | None] = []
            for cells in F.adaptive_avg_pool2d(batch.results.double(), self.cells):
                last.append(cells)
                curve.append(_jump(last) if len(last) == 3 else None)
            return curve

        return gauge


def _jump(last: deque[Tensor]) -> float:
    oldest, middle, newest = last
    return float((newest - 2 * middle + oldest).abs().mean())
