"""Soft edges by holistically-nested edge detection (Xie & Tu 2015, arXiv 1504.06375).

The network is the VGG-16 layout with one side output after each of its five blocks that
ControlNet's HED models were trained with; its weights are read from a local safetensors file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rerender.contracts import Control
from rerender.control._weights import fill
from rerender.errors import WeightsError
from rerender.kinds import LocalModel

BLOCKS = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))


class Block(nn.Module):
    """Some 3x3 convolutions and a 1x1 side output."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * depth
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.projection = nn.Conv2d(outputs, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            x = F.relu(conv(x))
        return x, self.projection(x)


class Network(nn.Module):
    """Five blocks, halving between them; takes RGB in 0..255 and returns five side outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        for number, block in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(*block))

    def forward(self, x: Tensor) -> list[Tensor]:
        sides, x = [], x - self.norm
        for number in range(1, len(BLOCKS) + 1):
            x = F.max_pool2d(x, 2) if number > 1 else x
            x, side = getattr(self, f"block{number}")(x)
            sides.append(side)
        return sides


@dataclass(frozen=True, kw_only=True)
class HED(Control):
    """Mean of the five side outputs at image size, through a sigmoid.

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
        path: safetensors file with the network's weights.
    """

    costly: ClassVar[bool] = True

    path: LocalModel

    def __post_init__(self) -> None:
        super().__post_init__()
        if not Path(self.path).expanduser().is_file():
            raise WeightsError(
                self.path or "control.hed.path",
                "no such file of HED weights",
                "give a safetensors file with the weights of ControlNet's HED annotator",
            )

    @property
    def on_device(self) -> bool:
        return True

    @cached_property
    def _network(self) -> nn.Module:
        return fill(Network(), Path(self.path).expanduser())

    @torch.no_grad()
    def map(self, image: Tensor) -> Tensor:
        size = image.shape[-2:]
        sides = self._network.to(image.device)(image[None].float() * 255)
        sized = [F.interpolate(s, size, mode="bilinear", align_corners=False) for s in sides]
        return torch.sigmoid(torch.stack(sized).mean(0))[0].expand(3, -1, -1).clone()
