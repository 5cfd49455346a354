"""GMFlow, the estimator of the published method, from the user's own copy of its code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rerender.contracts import FlowEstimator
from rerender.errors import WeightsError
from rerender.flow._first_guess import led
from rerender.flow._weights import ALONE, checked, load
from rerender.flow.field import Flow, occlusion, pair
from rerender.kinds import Code, Word
from rerender.video import Frame

SMALLEST = 320
"""Smaller images are enlarged to this short side, the smallest that the network was trained with:
at 128 pixels it is 4 pixels off where nothing moves by more than 2."""


@dataclass(frozen=True)
class Scales:
    """How a network with so many scales is made and called, as its authors do.

    Attributes:
        multiple: sides must be multiples of this: the finest features are cut into windows.
        make: arguments of the network.
        call: arguments of a call.
    """

    multiple: int
    make: Mapping[str, object]
    call: Mapping[str, object]


SCALES: Mapping[int, Scales] = {
    1: Scales(
        16,
        {"num_scales": 1, "upsample_factor": 8},
        {"attn_splits_list": [2], "corr_radius_list": [-1], "prop_radius_list": [-1]},
    ),
    2: Scales(
        32,
        {"num_scales": 2, "upsample_factor": 4},
        {"attn_splits_list": [2, 8], "corr_radius_list": [-1, 4], "prop_radius_list": [-1, 1]},
    ),
}


@dataclass(frozen=True)
class GmFlow(FlowEstimator):
    """Xu et al., "GMFlow: Learning Optical Flow via Global Matching", CVPR 2022.

    An adapter: the network's code is not part of this project. Both directions come from one
    call, on images of 0..255 as the network expects; small ones are enlarged for it.

    Attributes:
        repo: folder of a copy of the authors' repository; its code is imported and run.
        weights: checkpoint such as gmflow_sintel-0c07dcb3.pth.
        sha256: its digest; None takes it from the file's name, if there.
        scales: 1, or 2 for the checkpoints with refinement (gmflow_with_refine...).

    Raises:
        WeightsError: by ``check`` and at the first use, for missing code or a missing, damaged or
            wrong file.
    """

    costly: ClassVar[bool] = True

    repo: Code
    weights: Path
    sha256: Word | None = None
    scales: Literal[1, 2] = 1

    @property
    def on_device(self) -> bool:
        return True

    def check(self) -> None:
        with ALONE:
            self.loaded(torch.device("cpu"))

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        def found(target: Tensor, source: Tensor) -> Tensor:
            return self.both(target, source)[:1]

        return led(found, target.image.float(), source.image.float(), start)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        both = self.both(first.image.float(), second.image.float())
        there, back = both[:1], both[1:]
        return Flow(there, occlusion(there, back)), Flow(back, occlusion(back, there))

    def both(self, first: Tensor, second: Tensor) -> Tensor:
        """Offsets first -> second and second -> first ``[2,2,H,W]`` of two images ``[3,H,W]``."""
        scales, images = SCALES[self.scales], [enlarged(image) for image in (first, second)]
        height, width = images[0].shape[-2:]
        with ALONE, torch.no_grad():
            network = self.loaded(first.device)
            pair = [padded(image, scales.multiple)[None] * 255 for image in images]
            found = network(*pair, **scales.call, pred_bidir_flow=True)
        offsets: Tensor = found["flow_preds"][-1]
        return reduced(offsets[..., :height, :width], *first.shape[-2:])

    def loaded(self, device: torch.device) -> nn.Module:
        """The network with its weights, read once in a process."""
        return loaded(self.repo, self.weights, self.sha256, self.scales, device)


@lru_cache(maxsize=1)
def loaded(
    repo: Path, weights: Path, sha256: str | None, scales: Literal[1, 2], device: torch.device
) -> nn.Module:
    """The network with the weights of a file."""
    if not (repo / "gmflow" / "gmflow.py").is_file():
        cure = "set flow.repo to a copy of the authors' repository"
        raise WeightsError(repo, "holds no gmflow/gmflow.py", cure)
    path = checked(weights, sha256, "set flow.weights to a GMFlow checkpoint")
    network: nn.Module = code(repo).GMFlow(
        feature_channels=128,
        num_head=1,
        attention_type="swin",
        ffn_dim_expansion=4,
        num_transformer_layers=6,
        **SCALES[scales].make,
    )
    cure = f"set flow.weights to a file of this network, or flow.scales={3 - scales}"
    return load(network, path, cure).to(device)


def code(repo: Path) -> ModuleType:
    """The module gmflow/gmflow.py of a repository, and not that of one imported before."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "gmflow"]:
        del sys.modules[name]
    sys.path.insert(0, str(repo))
    try:
        found = importlib.import_module("gmflow.gmflow")
        if not hasattr(found, "GMFlow"):
            raise ImportError("it defines no GMFlow")
        return found
    except Exception as error:  # it is anybody's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        cure = "set flow.repo to a whole copy of the authors' repository"
        raise WeightsError(repo / "gmflow", f"cannot be imported ({reason})", cure) from error
    finally:
        sys.path.remove(str(repo))


def enlarged(image: Tensor) -> Tensor:
    """The image ``[3,H,W]`` with the short side that the network needs at least."""
    height, width = image.shape[-2:]
    scale = SMALLEST / min(height, width)
    if scale <= 1:
        return image
    size = (round(height * scale), round(width * scale))
    return F.interpolate(image[None], size, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def reduced(offsets: Tensor, height: int, width: int) -> Tensor:
    """Offsets ``[2,2,H,W]`` on the grid of the image that was enlarged."""
    if offsets.shape[-2:] == (height, width):
        return offsets.contiguous()
    scale = pair(offsets, width / offsets.shape[-1], height / offsets.shape[-2])
    return F.interpolate(offsets, (height, width), mode="area") * scale.view(1, 2, 1, 1)


def padded(image: Tensor, multiple: int) -> Tensor:
    """The image with its last rows and columns repeated up to multiples of a number."""
    height, width = image.shape[-2:]
    margins = (0, -width % multiple, 0, -height % multiple)
    return F.pad(image[None], margins, mode="replicate")[0]
