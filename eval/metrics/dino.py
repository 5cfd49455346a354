"""Structure as a vision transformer sees it: self-similarity of DINO features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Batch, Curve, Gauge, Metric, Trial
from eval.metrics.weights import find, label, opened
from rerender.errors import ConfigError
from rerender.kinds import LocalModel

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclass(frozen=True, kw_only=True)
class Dino(Metric):
    """Distance between the self-similarities of source and result, 0..4, mean over frames.

    ``mean_ij (S_ij(x_t) - S_ij(y_t))^2``, ``S_ij`` the cosine of the last layer's patch tokens
    ``i`` and ``j`` (after Splice, Tumanyan et al. 2022, which takes the keys). Where things are
    counts, what they look like does not.

    Attributes:
        weights: a local folder, or a hub id that has been downloaded before.
        size: side that frames are resized to, in pixels; a multiple of the model's patch.
    """

    version: ClassVar[str] = "1"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"

    weights: LocalModel
    size: int = 224

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 2048:
            raise ConfigError(
                "metrics.dino.size", f"must lie in 1..2048 pixels, received {self.size}", "use 224"
            )

    def check(self, trial: Trial) -> None:
        find(self.weights, "dino")

    def note(self) -> str:
        return label(self.weights, "dino")

    def open(self, trial: Trial) -> Gauge:
        model = _load(find(self.weights, "dino"), trial.device)

        def gauge(batch: Batch) -> Curve:
            there = self._similarity(model, batch.sources)
            here = self._similarity(model, batch.results)
            return [float(value) for value in (there - here).square().mean((1, 2)).cpu()]

        return gauge

    def _similarity(self, model: Any, frames: Tensor) -> Tensor:
        """``[B,N,N]`` cosines between patch tokens."""
        size = (self.size, self.size)
        frames = F.interpolate(frames, size, mode="bicubic", antialias=True, align_corners=False)
        frames = frames.clamp(0, 1).to(model.device)
        mean, std = (frames.new_tensor(x).view(1, 3, 1, 1) for x in (_MEAN, _STD))
        tokens = model(pixel_values=(frames - mean) / std).last_hidden_state
        patches = (self.size // model.config.patch_size) ** 2
        unit = F.normalize(tokens[:, -patches:].float(), dim=-1)
        return unit @ unit.transpose(1, 2)


@lru_cache(maxsize=1)
def _load(folder: Path, device: str) -> Any:
    from transformers import AutoModel

    model = opened(AutoModel, folder, ("pooler.",))
    return model.to(device)
