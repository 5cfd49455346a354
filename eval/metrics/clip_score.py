"""CLIP score: how well the frames fit the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Gauge, Trial
from eval.metrics.clip import ClipMetric, Judge, asked_in_time, numbers


@dataclass(frozen=True, kw_only=True)
class ClipScore(ClipMetric):
    """Mean cosine between a frame's and the prompt's CLIP embedding, -1..1.

    ``cos(I(y_t), T(prompt))``, as RAVE computes it. CLIPScore (Hessel et al. 2021) is 2.5 times
    this, cut at 0; the CLIP-T of TGVE and V2VBench is the logit scale (about 100) times this.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    def gauge(self, judge: Judge, trial: Trial) -> Gauge:
        if trial.clip.ranges:
            asked = asked_in_time(judge, trial.clip)
            return lambda batch: numbers((self.results(judge, batch) * asked(batch)).sum(-1))
        prompt = judge.texts([trial.clip.prompt])[0]
        return lambda batch: numbers(self.results(judge, batch) @ prompt)
