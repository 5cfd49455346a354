"""RAFT flow: slower than DIS, better on large motion; needs weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rerender.contracts import FlowEstimator
from rerender.contracts.upload import upload
from rerender.flow._first_guess import led
from rerender.flow._raft_names import torchvision_names
from rerender.flow._weights import ALONE, checked, load
from rerender.kinds import Word
from rerender.video import Frame

RELEASED = {
    "small": "raft_small_C_T_V2-01064c6d.pth",
    "large": "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
}
SMALLEST = 128
"""Sides below this leave the coarsest correlation level empty."""


@dataclass(frozen=True)
class Raft(FlowEstimator):
    """Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms", ECCV 2020, by torchvision.

    Nothing is downloaded.

    Attributes:
        network: size of the network.
        weights: file of its weights, torchvision's or of the authors' release; None looks in
            PyTorch's cache for torchvision's own.
        sha256: digest of that file; None takes it from the file's name, if there.
        updates: refinement steps.

    Raises:
        WeightsError: by ``check`` and at the first use, for a missing, damaged or wrong file.
    """

    costly: ClassVar[bool] = True

    network: Literal["small", "large"] = "large"
    weights: Path | None = None
    sha256: Word | None = None
    updates: Annotated[int, Field(ge=1, le=64)] = 12

    @property
    def on_device(self) -> bool:
        return True

    def check(self) -> None:
        with ALONE:
            self.loaded(torch.device("cpu"))

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return led(self.found, target.image.float(), source.image.float(), start)

    def found(self, target: Tensor, source: Tensor) -> Tensor:
        """What the network finds between two images ``[3,H,W]``."""
        height, width = target.shape[-2:]
        pair = [padded(image)[None] * 2 - 1 for image in (target, source)]
        with ALONE, torch.no_grad():
            network = self.loaded(target.device)
            with _Pinned():
                offset: Tensor = network(*pair, num_flow_updates=self.updates)[-1]
        return offset[..., :height, :width].contiguous()

    def loaded(self, device: torch.device) -> nn.Module:
        """The network with its weights, read once in a process."""
        path = self.weights or Path(torch.hub.get_dir()) / "checkpoints" / RELEASED[self.network]
        return loaded(self.network, path, self.sha256, device)


class _Pinned(TorchFunctionMode):
    """torchvision's network makes a grid of numbers on the processor in every update, and moves it
    to the device: while this lasts, through pinned memory, so that nothing waits for the copy."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        device = args[1] if func is Tensor.to and len(args) == 2 else None
        if isinstance(device, torch.device):
            return upload(args[0], device)
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=1)
def loaded(
    network: Literal["small", "large"], path: Path, sha256: str | None, device: torch.device
) -> nn.Module:
    """A network with the weights of a file."""
    from torchvision.models.optical_flow import raft_large, raft_small

    cure = f"put torchvision's {RELEASED[network]} there, or set flow.weights=FILE to it or to "
    cure += "a file of the authors' release, such as raft-things.pth"
    path = checked(path, sha256, cure)
    make = raft_small if network == "small" else raft_large
    other = "large" if network == "small" else "small"
    cure = f"set flow.weights to a file of this network, or flow.network={other}"
    return load(make(weights=None), path, cure, torchvision_names).to(device)


def padded(image: Tensor) -> Tensor:
    """The image with its last rows and columns repeated up to multiples of 8 and 128 at least."""
    height, width = image.shape[-2:]
    sides = [max(SMALLEST, -(-side // 8) * 8) for side in (height, width)]
    margins = (0, sides[1] - width, 0, sides[0] - height)
    return F.pad(image[None], margins, mode="replicate")[0]
