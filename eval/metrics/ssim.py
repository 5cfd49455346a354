"""SSIM against the true translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial, UnavailableError
from eval.metrics.fidelity import need_truth, ssim, true_image


@dataclass(frozen=True, kw_only=True)
class Ssim(Metric):
    """Structural similarity to the true translation (Wang et al. 2004), -1..1, mean over frames.

    Gaussian window of sigma 1.5, each colour channel by itself, as scikit-image computes it.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    def check(self, trial: Trial) -> None:
        need_truth(trial)
        if min(trial.clip.video.size) < 11:
            raise UnavailableError("SSIM needs frames of at least 11 x 11 pixels")

    def open(self, trial: Trial) -> Gauge:
        def value(moment: Moment) -> float | None:
            reference = true_image(trial.clip.truth, moment)
            return None if reference is None else ssim(moment.result, reference)

        def gauge(batch: Batch) -> Curve:
            return [value(moment) for moment in batch.moments]

        return gauge
