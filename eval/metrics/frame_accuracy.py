"""Frame accuracy (Fram-Acc): the share of frames that show the prompt rather than the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Trial
from eval.metrics.clip import ClipMetric, Judge, asked_in_time, need_prompts, numbers


@dataclass(frozen=True, kw_only=True)
class FrameAccuracy(ClipMetric):
    """Share of frames whose CLIP embedding is at least as near to the prompt as to the source
    prompt, 0..1 (FateZero; Rerender section 5.2).

    A frame counts where ``cos(I(y_t), T(prompt)) >= cos(I(y_t), T(source prompt))``. FateZero cuts
    the bottom square out of upright frames; ours cuts the centre, as CLIP's own preprocessing.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    def check(self, trial: Trial) -> None:
        super().check(trial)
        need_prompts(trial)

    def gauge(self, judge: Judge, trial: Trial) -> Gauge:
        asked = asked_in_time(judge, trial.clip)
        wanted, had = judge.texts([trial.clip.prompt, trial.clip.source_prompt])

        def gauge(batch: Batch) -> Curve:
            seen = self.results(judge, batch)
            fits = (seen * asked(batch)).sum(-1) if trial.clip.ranges else seen @ wanted
            return numbers((fits >= seen @ had).float())

        return gauge
