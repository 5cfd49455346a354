"""Colour drift: how far a result's colours wander away from its first frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial

Lab = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ColorDrift(Metric):
    """Distance of the mean CIELAB colour from the first frame's, beyond the source's own change.

    ``|(c(y_t) - c(y_0)) - (c(x_t) - c(x_0))|`` with ``c`` the frame's mean L*a*b* (D65), ``y`` the
    result and ``x`` the source; Delta E units (1 is just visible), mean over frames after the
    first. A source whose light changes does not count against the result.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"
    unit: ClassVar[str] = "dE"

    def open(self, trial: Trial) -> Gauge:
        start: list[Lab] = []

        def gauge(batch: Batch) -> Curve:
            start[:] = start or [_shift(batch.first)]
            return [
                None if moment.index == batch.first.index else _length(_shift(moment) - start[0])
                for moment in batch.moments
            ]

        return gauge


def _shift(moment: Moment) -> Lab:
    return _mean_lab(moment.result) - _mean_lab(moment.source)


def _mean_lab(image: Tensor) -> Lab:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy(), np.float32)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    return np.asarray(lab.reshape(-1, 3).mean(0, dtype=np.float64))


def _length(vector: Lab) -> float:
    return float(np.linalg.norm(vector))
