"""Sharpness drift: how far a result's detail grows or wears off along the clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Reading, Trial

_LUMA = torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64).view(3, 1, 1)  # BT.709
_FLOOR = 1e-8  # gradient energy of a flat picture, so that no logarithm is taken of 0


@dataclass(frozen=True, kw_only=True)
class SharpnessDrift(Metric):
    """Change of the gradient energy since the first frame, beyond the source's own change, in dB.

    ``d_t = 10 log10 [g(y_t) / g(x_t)] - 10 log10 [g(y_0) / g(x_0)]`` with ``g`` the mean squared
    difference of neighbouring pixels' luma (BT.709, 0..1), ``y`` the result and ``x`` the source.
    The curve has its sign, below 0 where detail wears off; the value is the mean of ``|d_t|`` over
    frames after the first.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"
    unit: ClassVar[str] = "dB"

    def open(self, trial: Trial) -> Gauge:
        start: list[float] = []

        def gauge(batch: Batch) -> Curve:
            start[:] = start or [_beyond(batch.first)]
            return [
                None if moment.index == batch.first.index else _beyond(moment) - start[0]
                for moment in batch.moments
            ]

        return gauge

    def read(self, curve: Curve, trial: Trial) -> Reading:
        return super().read([None if value is None else abs(value) for value in curve], trial)


def _beyond(moment: Moment) -> float:
    return 10 * math.log10(energy(moment.result) / energy(moment.source))


def energy(image: Tensor) -> float:
    """Mean squared difference of neighbouring pixels' luma.

    Args:
        image: ``[3,H,W]`` in 0..1.
    """
    luma = (image.double() * _LUMA.to(image.device)).sum(0)
    across, down = luma.diff(dim=1).square().mean(), luma.diff(dim=0).square().mean()
    return max(float(across + down), _FLOOR)
