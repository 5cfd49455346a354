"""What a perceptual distance is taken between, and how its layers are averaged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial, UnavailableError
from eval.metrics.alignment import visible
from eval.metrics.fidelity import need_truth, true_image
from rerender.data import picture
from rerender.errors import ConfigError
from rerender.kinds import Folder

Maps = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""``maps(a, b) -> [B,1,h,w]`` for each layer: how far two batches ``[B,3,H,W]`` in 0..1 differ."""
Compare = Literal["truth", "neighbours", "outside"]
_SUFFIX = {"truth": "", "neighbours": "_neighbours", "outside": "_outside"}


class FeaturePair(NamedTuple):
    """Two images ``[3,H,W]`` and the weight ``[1,H,W]`` of each pixel."""

    image: Tensor
    other: Tensor
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Perceptual(Metric):
    """A perceptual distance, mean over frames.

    ``sum_l mean_p w_l(p) d_l(p)`` over layers ``l``; ``w`` is 1 everywhere, or the pixels that
    count, averaged to the layer's grid.

    Attributes:
        compare: "truth": result and true translation. "neighbours": result and the frame before
            it, aligned by the source's flow, over visible pixels. "outside": source and result
            where the edit mask is black.
        masks: folder of edit masks for "outside": ``CLIP.png``, or ``CLIP/`` with a file for each
            frame in order; white is what may change.
    """

    direction: ClassVar[Literal["lower", "higher"]] = "lower"

    compare: Compare = "truth"
    masks: Folder = ""

    def __post_init__(self) -> None:
        if self.compare not in _SUFFIX:
            raise ConfigError(
                f"metrics.{super().name}.compare",
                f"must be one of {', '.join(_SUFFIX)}, received {self.compare!r}",
                "name one of them",
            )

    @property
    def name(self) -> str:
        """The metric's file, with _neighbours or _outside."""
        return super().name + _SUFFIX[self.compare]

    def check(self, trial: Trial) -> None:
        if self.compare == "truth":
            need_truth(trial)
        if self.compare == "outside":
            _mask_files(self.masks, trial)
        self.find()

    @abstractmethod
    def find(self) -> None:
        """Refuse missing or damaged weights by an UnavailableError."""

    @abstractmethod
    def maps(self, device: str) -> Maps:
        """The loaded network."""

    @property
    def looks_back(self) -> int:
        return int(self.compare == "neighbours")

    def open(self, trial: Trial) -> Gauge:
        maps = self.maps(trial.device)

        def gauge(batch: Batch) -> Curve:
            pairs = list(self._pairs(batch, trial))
            made = [pair for pair in pairs if pair is not None]
            values = iter(distances(maps, made, trial.device) if made else ())
            return [None if pair is None else next(values) for pair in pairs]

        return gauge

    def _pairs(self, batch: Batch, trial: Trial) -> Iterator[FeaturePair | None]:
        for moment, earlier in zip(batch.moments, batch.references(), strict=True):
            if self.compare == "truth":
                yield _with_truth(moment, trial)
            elif self.compare == "neighbours":
                yield None if earlier is None else _with_neighbour(batch, moment, earlier)
            else:
                files = _mask_files(self.masks, trial)
                mask = _mask(files[min(moment.index, len(files) - 1)], moment.source)
                yield FeaturePair(moment.source, moment.result, 1 - mask)


def distances(maps: Maps, pairs: Sequence[FeaturePair], device: str) -> list[float | None]:
    """The distance of each pair; None where no pixel has weight."""
    images = torch.stack([pair.image for pair in pairs]).to(device)
    others = torch.stack([pair.other for pair in pairs]).to(device)
    weights = torch.stack([pair.weight for pair in pairs]).to(device)
    total = torch.zeros(len(pairs), dtype=torch.float64, device=device)
    for layer in maps(images, others):
        weight = F.adaptive_avg_pool2d(weights, (layer.shape[-2], layer.shape[-1])).double()
        total += (layer * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    seen = weights.sum((1, 2, 3)) > 0
    return [float(v) if s else None for v, s in zip(total.cpu(), seen.cpu(), strict=True)]


def _with_truth(moment: Moment, trial: Trial) -> FeaturePair | None:
    truth = true_image(trial.clip.truth, moment)
    return None if truth is None else FeaturePair(moment.result, truth, torch.ones_like(truth[:1]))


def _with_neighbour(batch: Batch, moment: Moment, earlier: Moment) -> FeaturePair:
    flow = batch.flow(moment, earlier)
    weight = visible(flow)
    # Hidden pixels are made equal, so that no layer sees the seam of what was warped in.
    warped = torch.where(weight > 0, flow.warp(earlier.result), moment.result)
    return FeaturePair(moment.result, warped, weight)


def _mask_files(masks: str, trial: Trial) -> list[Path]:
    name = trial.clip.name
    if not masks:
        raise UnavailableError("no edit masks (give a folder: masks=PATH)")
    single, many = Path(masks, f"{name}.png"), Path(masks, name)
    files = [single] if single.is_file() else sorted(many.glob("*.png"))
    if not files:
        raise UnavailableError(f"no edit mask for {name} (looked for {single} and {many}/)")
    return files


def _mask(file: Path, like: Tensor) -> Tensor:
    """``[1,H,W]`` in 0..1 at the size of an image."""
    rgb = picture.read(file).image.mul(255).round().byte().permute(1, 2, 0)
    levels = cv2.cvtColor(rgb.contiguous().numpy(), cv2.COLOR_RGB2GRAY)
    mask = torch.from_numpy(np.asarray(levels, np.float32) / 255)[None, None]
    return F.interpolate(mask, like.shape[-2:], mode="nearest")[0]
