"""Temporal consistency (Tem-Con): how alike a result's frames look to CLIP."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Reading, Trial
from eval.metrics.clip import ClipMetric, Judge
from rerender.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TemCon(ClipMetric):
    """Mean cosine of CLIP image embeddings over pairs of frames, -1..1.

    ``cos(I(y_t), I(y_t-1))`` over neighbours (FateZero; Rerender section 5.2), or over all pairs
    of different frames (CLIP-F of TGVE and RAVE). The curve of the latter is frame ``t`` against
    the mean of all frames before it. A still picture has 1, whatever it shows.

    Attributes:
        pairs: "neighbours" or "all".
    """

    version: ClassVar[str] = "2"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    pairs: Literal["neighbours", "all"] = "neighbours"

    def __post_init__(self) -> None:
        if self.pairs not in ("neighbours", "all"):
            raise ConfigError(
                "metrics.tem_con.pairs",
                f"must be neighbours or all, received {self.pairs!r}",
                "name one of the two",
            )

    @property
    def name(self) -> str:
        """tem_con or tem_con_all, with _demo where the demo CLIP is the judge."""
        name = super().name
        return name.replace("tem_con", "tem_con_all") if self.pairs == "all" else name

    @property
    def looks_back(self) -> int:
        return int(self.pairs == "neighbours")

    def gauge(self, judge: Judge, trial: Trial) -> Gauge:
        before: Tensor | None = None  # the last embedding, or the sum of all of them
        count = 0

        def gauge(batch: Batch) -> Curve:
            nonlocal before, count
            curve: list[float | None] = []
            for seen in self.results(judge, batch).double():
                curve.append(None if before is None else float(seen @ before) / max(count, 1))
                if self.pairs == "all":
                    before, count = torch.add(seen, 0 if before is None else before), count + 1
                else:
                    before = seen
            return curve

        return gauge

    def read(self, curve: Curve, trial: Trial) -> Reading:
        if self.pairs == "neighbours" or len(curve) < 2:
            return super().read(curve, trial)
        # Frame t stands for t pairs, one with each frame before it.
        weighted = [(t, value) for t, value in enumerate(curve) if value is not None]
        pairs = sum(t for t, _ in weighted)
        return Reading(math.fsum(t * value for t, value in weighted) / pairs, pairs, self.note())
