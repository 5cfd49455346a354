"""Whether a result has as many frames as its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Curve, Gauge, Metric, Reading, Trial


@dataclass(frozen=True, kw_only=True)
class FrameCount(Metric):
    """Frames lost or added, ``|N_result - N_source|``; 0 is the only good value."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"
    unit: ClassVar[str] = "frames"
    paired: ClassVar[bool] = False

    def open(self, trial: Trial) -> Gauge:
        return lambda batch: [None] * len(batch.moments)

    def read(self, curve: Curve, trial: Trial) -> Reading:
        wanted, found = len(trial.clip.video), len(trial.result)
        return Reading(float(abs(found - wanted)), found)
