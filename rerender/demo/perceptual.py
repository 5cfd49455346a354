"""``lpips_demo``: a perceptual distance on features of a small network of the demo world.

The construction of LPIPS (Zhang et al., 2018, equation 1) with uniform weights on another
backbone, so its values compare with each other only and are never to be called LPIPS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ResNetForImageClassification

from rerender.demo.weights import FOLDER


def load(folder: Path = FOLDER) -> Any:
    """The backbone of a weights folder, ready to compare."""
    model = ResNetForImageClassification.from_pretrained(
        folder / "lpips_demo", local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return model.eval()


@torch.no_grad()
def distance(model: Any, one: Tensor, other: Tensor) -> Tensor:
    """How different two batches of frames look.

    Args:
        model: from ``load``.
        one, other: ``[N,3,H,W]`` RGB in 0..1.

    Returns:
        ``[N]``, 0 for equal frames; larger is more different.
    """
    layers = zip(_features(model, one), _features(model, other), strict=True)
    return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in layers]).mean(0)


def _features(model: Any, frames: Tensor) -> list[Tensor]:
    """Every stage's output, each position scaled to unit length."""
    states = model.resnet(frames * 2 - 1, output_hidden_states=True).hidden_states
    return [F.normalize(state, dim=1) for state in states[1:]]
