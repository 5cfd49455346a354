"""PSNR against the true translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Reading, Trial
from eval.metrics.fidelity import need_truth, psnr, true_image


@dataclass(frozen=True, kw_only=True)
class Psnr(Metric):
    """Peak signal-to-noise ratio against the true translation, in dB, mean over frames.

    ``-10 log10 mean |y - y*|^2`` with values in [0,1]. Frames that are equal to the truth have no
    bound and are left out; a clip of nothing else has no value and says so.
    """

    version: ClassVar[str] = "1"
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
        reading = super().read(curve, trial)
        if reading.value is None:
            return Reading(None, 0, "n/a: every frame equals the truth, PSNR has no bound")
        return reading
