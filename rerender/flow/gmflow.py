"""GMFlow, the estimator of the published method, from the user's own copy of its code."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rerender.contracts import FlowEstimator
from rerender.errors import WeightsError
from rerender.flow.field import Flow, occlusion
from rerender.flow.weights import checked, load
from rerender.video import Frame

MULTIPLE = 16
"""Sides must be multiples of this: a factor of 8, cut into 2x2 windows."""


@dataclass(frozen=True)
class GmFlow(FlowEstimator):
    """Xu et al., "GMFlow: Learning Optical Flow via Global Matching", CVPR 2022; one scale.

    An adapter: the network's code is not part of this project. Both directions come from one
    call, on images of 0..255 as the network expects. A first guess is not used.

    Attributes:
        repo: folder of a copy of the authors' repository; its code is imported and run.
        weights: checkpoint such as gmflow_sintel-0c07dcb3.pth.
        sha256: its digest; None takes it from the file's name, if there.

    Raises:
        WeightsError: at the first use, for missing code or a missing, damaged or wrong file.
    """

    costly: ClassVar[bool] = True

    repo: Path
    weights: Path
    sha256: str | None = None

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self.both(target, source)[:1]

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        both = self.both(first, second)
        there, back = both[:1], both[1:]
        return Flow(there, occlusion(there, back)), Flow(back, occlusion(back, there))

    def both(self, first: Frame, second: Frame) -> Tensor:
        """Offsets first -> second and second -> first, ``[2,2,H,W]``."""
        height, width = first.image.shape[-2:]
        network = loaded(self.repo, self.weights, self.sha256, first.image.device)
        with torch.no_grad():
            found = network(
                *(padded(frame.image)[None] * 255 for frame in (first, second)),
                attn_splits_list=[2],
                corr_radius_list=[-1],
                prop_radius_list=[-1],
                pred_bidir_flow=True,
            )
        offsets: Tensor = found["flow_preds"][-1]
        return offsets[..., :height, :width].contiguous()


@lru_cache(maxsize=1)
def loaded(repo: Path, weights: Path, sha256: str | None, device: torch.device) -> nn.Module:
    """The network with the weights of a file."""
    if not (repo / "gmflow" / "gmflow.py").is_file():
        cure = "set flow.repo to a copy of the authors' repository"
        raise WeightsError(repo, "holds no gmflow/gmflow.py", cure)
    path = checked(weights, sha256, "set flow.weights to a GMFlow checkpoint")
    sys.path.insert(0, str(repo))
    try:
        module = importlib.import_module("gmflow.gmflow")
    finally:
        sys.path.remove(str(repo))
    network: nn.Module = module.GMFlow(
        feature_channels=128,
        num_scales=1,
        upsample_factor=8,
        num_head=1,
        attention_type="swin",
        ffn_dim_expansion=4,
        num_transformer_layers=6,
    )
    return load(network, path).to(device)


def padded(image: Tensor) -> Tensor:
    """The image with its last rows and columns repeated up to multiples of 16."""
    height, width = image.shape[-2:]
    margins = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    return F.pad(image.float()[None], margins, mode="replicate")[0]
