"""Background kept: how exactly a result keeps what nobody asked to change."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial
from eval.metrics.masks import Masks, find_masks
from rerender.kinds import Folder


@dataclass(frozen=True, kw_only=True)
class Background(Metric):
    """PSNR between source and result outside the edit mask, mean over frames, in dB.

    ``-10 log10( sum_p w(p) |y_t(p) - x_t(p)|^2 / (3 sum_p w(p)) )`` with ``w`` 1 outside the mask
    (FiVE: PSNR of the unedited part). A frame that is kept to the bit has no finite value and
    counts as 100 dB, so that keeping everything is the best there is. Undefined in frames that the
    mask covers whole.

    Attributes:
        masks: folder of masks, ``CLIP.png`` or ``CLIP/*.png``, white may change; "" for those that
            the clip brings.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"
    unit: ClassVar[str] = "dB"

    masks: Folder = ""

    def check(self, trial: Trial) -> None:
        find_masks(self.masks, trial)

    def open(self, trial: Trial) -> Gauge:
        masks = find_masks(self.masks, trial)

        def gauge(batch: Batch) -> Curve:
            return [_psnr(moment, masks) for moment in batch.moments]

        return gauge


_BEST = 100.0  # dB, of two pictures that are the same


def _psnr(moment: Moment, masks: Masks) -> float | None:
    weight = (1 - masks.at(moment.index, moment.source)).double()
    if not float(weight.sum()):
        return None
    error = (moment.result - moment.source).double().square().mean(0, keepdim=True)
    mean = float((error * weight).sum() / weight.sum())
    return min(-10 * math.log10(mean), _BEST) if mean > 0 else _BEST
