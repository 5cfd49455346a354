"""Colour drift: how far a result's colours wander away from its first frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial

Lab = NDArray[np.float64]
# Linear sRGB to CIE XYZ, from the chromaticities of its primaries and of its white, D65 (IEC
# 61966-2-1): x and y of red, green, blue and white. Rows are divided by the white.
_XY = np.array([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06], [0.3127, 0.3290]])
_XYZ = np.stack([_XY[:, 0] / _XY[:, 1], np.ones(4), (1 - _XY.sum(1)) / _XY[:, 1]])
_TO_XYZ = _XYZ[:, :3] * np.linalg.solve(_XYZ[:, :3], _XYZ[:, 3]) / _XYZ[:, 3:]


@dataclass(frozen=True, kw_only=True)
class ColorDrift(Metric):
    """Distance of the mean CIELAB colour from the first frame's, beyond the source's own change.

    ``|(c(y_t) - c(y_0)) - (c(x_t) - c(x_0))|`` with ``c`` the frame's mean L*a*b* (D65), ``y`` the
    result and ``x`` the source; Delta E units (1 is just visible), mean over frames after the
    first. A source whose light changes does not count against the result.
    """

    version: ClassVar[str] = "2"
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
    return np.asarray(lab(image).mean((1, 2)).cpu().numpy())


def lab(image: Tensor) -> Tensor:
    """CIE 1976 L*a*b* under D65 of an sRGB image, in double precision.

    Args:
        image: ``[3,H,W]`` in 0..1.

    Returns:
        ``[3,H,W]``: L* in 0..100, a* and b* about -128..128.
    """
    color = image.double()
    low = color <= 0.04045
    linear = torch.where(low, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("cd,dhw->chw", torch.from_numpy(_TO_XYZ).to(linear), linear)
    bent = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=0) ** (1 / 3), xyz * (841 / 108) + 4 / 29)
    x, y, z = bent
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _length(vector: Lab) -> float:
    return float(np.linalg.norm(vector))
