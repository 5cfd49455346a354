"""Diversity: how different the results of several seeds are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, Literal

import torch

from eval.contracts import Reading, SeveralResults, Trial
from eval.metrics.perceptual import FeaturePair, Perceptual, distances
from eval.score_files import finite
from rerender.fitting import resize
from rerender.video import Video

_TOGETHER = 8  # pairs of frames compared at once


@dataclass(frozen=True, kw_only=True)
class Diversity(SeveralResults):
    """Mean pairwise LPIPS between the results of several seeds of one clip, from 0 up.

    ``2 / (n (n - 1)) sum_{i<j} mean_t d(y^i_t, y^j_t)`` over the ``n`` seeds (as image synthesis
    measures it, Zhu et al. 2017, BicycleGAN). 0 where all seeds give the same video; noise that
    differs from seed to seed counts as well, so that a diverse method is a good one only where its
    videos are.

    Attributes:
        distance: the perceptual distance ``d``; what it compares otherwise does not matter.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "higher"

    distance: Perceptual

    @property
    def name(self) -> str:
        """diversity, with _demo where the demo world's backbone is the judge."""
        kind = type(self.distance).__module__.rpartition(".")[2]
        return super().name + kind.removeprefix("lpips")

    def check_weights(self) -> None:
        self.distance.find()

    def note(self) -> str:
        return self.distance.note()

    def across(self, trial: Trial, results: Sequence[Video]) -> Reading:
        maps = self.distance.maps(trial.device)
        pairs = list(combinations(range(len(results)), 2))
        height, width = trial.clip.video.size
        whole = torch.ones(1, height, width)
        values: list[float] = []
        frames = min(map(len, results))
        for index in range(frames):
            images = [resize(video[index], (height, width)).clamp(0, 1) for video in results]
            for start in range(0, len(pairs), _TOGETHER):
                some = [
                    FeaturePair(images[i], images[j], whole)
                    for i, j in pairs[start : start + _TOGETHER]
                ]
                values += [v for v in distances(maps, some, trial.device) if v is not None]
        value = finite(math.fsum(values) / len(values)) if values else None
        return Reading(value, len(pairs), f"{len(results)} seeds; {self.note()}")
