"""Directional CLIP similarity: whether the picture changed the way the words did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F

from eval.contracts import Batch, Curve, Gauge, Trial
from eval.metrics.clip import ClipMetric, Judge, need_prompts

_NO_CHANGE = 1e-6  # shorter differences of unit vectors are rounding


@dataclass(frozen=True, kw_only=True)
class Directional(ClipMetric):
    """Cosine between the change of the picture and the change of the prompt, -1..1.

    ``cos(I(y_t) - I(x_t), T(prompt) - T(source prompt))`` on unit embeddings (StyleGAN-NADA,
    Gal et al. 2022), mean over frames. Undefined where a frame's embedding did not change.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    def check(self, trial: Trial) -> None:
        super().check(trial)
        need_prompts(trial)

    def gauge(self, judge: Judge, trial: Trial) -> Gauge:
        wanted, had = judge.texts([trial.clip.prompt, trial.clip.source_prompt])
        asked = F.normalize(wanted - had, dim=-1)

        def gauge(batch: Batch) -> Curve:
            change = self.results(judge, batch) - self.sources(judge, batch)
            return [
                float(F.normalize(row, dim=-1) @ asked) if float(row.norm()) > _NO_CHANGE else None
                for row in change
            ]

        return gauge
