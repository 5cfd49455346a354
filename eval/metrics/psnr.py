"""PSNR against the true translation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Reading, Trial
from eval.metrics.fidelity import need_truth, psnr, true_image


@dataclass(frozen=True, kw_only=True)
class Psnr(Metric):
    """Peak signal-to-noise ratio against the true translation, in dB.

    ``-10 log10 mean |y - y*|^2`` with values in [0,1]; of a clip the mean is over the squared
    errors of all its frames, so that one nearly perfect frame does not decide. The curve has a gap
    where a frame equals the truth; a clip of nothing else has no value and says so.
    """

    version: ClassVar[str] = "2"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"
    unit: ClassVar[str] = "dB"

    def check(self, trial: Trial) -> None:
        need_truth(trial)

    def open(self, trial: Trial) -> Gauge:
        def value(moment: Moment) -> float | None:
            reference = true_image(trial.clip.truth, moment)
            return None if reference is None else psnr(moment.result, reference)

        def gauge(batch: Batch) -> Curve:
            return [value(moment) for moment in batch.moments]

        return gauge

    def read(self, curve: Curve, trial: Trial) -> Reading:
        errors = [0.0 if value is None else 10 ** (-value / 10) for value in curve]
        if not any(errors):
            return Reading(None, 0, "n/a: every frame equals the truth, PSNR has no bound")
        return Reading(-10 * math.log10(math.fsum(errors) / len(errors)), len(errors), self.note())
