"""Structure kept: whether the source's outlines are still there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial
from rerender.errors import ConfigError

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Structure(Metric):
    """F1 of the result's edges against the source's, 0..1, mean over frames.

    Edges by Canny on 8-bit luma. An edge pixel counts as found where the other image has one
    within ``reach`` pixels (Euclidean): precision over the result's edges, recall over the
    source's, ``F1 = 2PR / (P + R)``. Undefined where the source has no edge.

    Attributes:
        low, high: Canny's thresholds, 0..255 levels.
        reach: tolerated distance in pixels.
    """

    version: ClassVar[str] = "2"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    low: float = 60.0
    high: float = 140.0
    reach: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ConfigError(
                "metrics.structure.low",
                f"thresholds need 0 < low < high, received {self.low} and {self.high}",
                "swap or change them",
            )
        if not 0 <= self.reach <= 20:
            raise ConfigError(
                "metrics.structure.reach",
                f"must lie in 0..20 pixels, received {self.reach}",
                "use 2",
            )

    def open(self, trial: Trial) -> Gauge:
        return self._scores

    def _scores(self, batch: Batch) -> Curve:
        return [self._f1(moment) for moment in batch.moments]

    def _f1(self, moment: Moment) -> float | None:
        source, result = self._edges(moment.source), self._edges(moment.result)
        if not source.any():
            return None
        precision = _share(result, self._near(source))
        recall = _share(source, self._near(result))
        both = precision + recall
        return 2 * precision * recall / both if both else 0.0

    def _edges(self, image: Tensor) -> Mask:
        levels = (image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        luma = cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.Canny(luma, self.low, self.high) > 0)

    def _near(self, edges: Mask) -> Mask:
        across = np.arange(-self.reach, self.reach + 1)
        disc = (
            across[:, None] ** 2 + across**2 <= self.reach**2
        )  # OpenCV's ellipse is not symmetric
        return np.asarray(cv2.dilate(edges.astype(np.uint8), disc.astype(np.uint8)) > 0)


def _share(edges: Mask, near: Mask) -> float:
    """Share of the edges that lie near the other's; 0 where there are none."""
    return float(near[edges].mean()) if edges.any() else 0.0
