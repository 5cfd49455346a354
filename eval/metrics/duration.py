"""Whether a result lasts as long as its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Curve, Gauge, Metric, Reading, Trial
from rerender.video import Video


@dataclass(frozen=True, kw_only=True)
class Duration(Metric):
    """Difference in playing time, ``|T_result - T_source|`` in seconds, from the first frame's
    timestamp to the end of the last frame. A folder of frames has no time of its own."""

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"
    unit: ClassVar[str] = "s"
    paired: ClassVar[bool] = False

    def open(self, trial: Trial) -> Gauge:
        return lambda batch: [None] * len(batch.moments)

    def read(self, curve: Curve, trial: Trial) -> Reading:
        return Reading(abs(_seconds(trial.result) - _seconds(trial.clip.video)), len(trial.result))


def _seconds(video: Video) -> float:
    return float(video.end - video.timestamps[0])
