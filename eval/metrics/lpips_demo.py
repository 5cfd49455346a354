"""A perceptual distance on the small backbone of the demo world."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from eval.metrics.perceptual import Maps, Perceptual
from eval.metrics.weights import find, label, opened
from rerender.kinds import LocalModel


@dataclass(frozen=True, kw_only=True)
class LpipsDemo(Perceptual):
    """LPIPS without learned heads (the paper's "baseline" variant), on a network that names the
    words of demo frames. Its values compare with nothing but themselves.

    ``mean_l mean_p sum_c (a_lc(p) - b_lc(p))^2`` on features of unit length, 0..4.

    Attributes:
        weights: "demo", or a folder with another residual network.
    """

    version: ClassVar[str] = "2"

    weights: LocalModel = "demo"

    def find(self) -> None:
        find(self.weights, "lpips_demo")

    def note(self) -> str:
        return label(self.weights, "lpips_demo")

    def maps(self, device: str) -> Maps:
        network = _load(find(self.weights, "lpips_demo"), device)

        def maps(a: Tensor, b: Tensor) -> list[Tensor]:
            layers = list(zip(_features(network, a), _features(network, b), strict=True))
            return [(x - y).square().sum(1, keepdim=True) / len(layers) for x, y in layers]

        return maps


def _features(network: Any, images: Tensor) -> list[Tensor]:
    """Features of unit length after each of the network's stages."""
    seen = network.resnet(images * 2 - 1, output_hidden_states=True)
    return [F.normalize(stage.float(), dim=1) for stage in seen.hidden_states[1:]]


@lru_cache(maxsize=1)
def _load(folder: Path, device: str) -> Any:
    from transformers import ResNetForImageClassification

    network = opened(ResNetForImageClassification, folder)
    return network.to(device)
