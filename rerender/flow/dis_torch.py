"""Dense inverse search in torch: flow of many pairs at once on the device of the frames.

After Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, with a patch around
every pixel instead of every fourth: then patches need no lists, and sums over them are box filters.
On every level of a pyramid, patches descend by inverse compositional Lucas-Kanade steps, and each
pixel takes the mean of the patches over it, weighted by one over the square of their mean absolute
difference. There is no variational step: propagation takes its own afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from rerender.compiled import fused
from rerender.contracts import BatchedFlowEstimator
from rerender.errors import ConfigError
from rerender.flow.field import Flow, occlusion, pair, warp
from rerender.video import Frame

COARSEST = 12
"""Shorter side in pixels below which no pyramid level is made."""

NOISE = 1e-3
"""Added to squared gradients, summed over colours in 0..1; patches without structure then stay."""

FIT = 3 / 255
"""Mean absolute difference, summed over colours in 0..1, below which patches hardly fit better."""


@dataclass(frozen=True)
class DisTorch(BatchedFlowEstimator):
    """Flow by dense inverse search with a patch around every pixel, without weights.

    Attributes:
        finest: pyramid level at which it ends, 0 for full resolution, 1 for half.
        steps: descents of the patches of a level.
        window: side of a patch in pixels, odd.

    Raises:
        ConfigError: an even window.
    """

    finest: Annotated[int, Field(ge=0, le=4)] = 0
    steps: Annotated[int, Field(ge=1, le=64)] = 3
    window: Annotated[int, Field(ge=3, le=31)] = 9

    def __post_init__(self) -> None:
        if self.window % 2 == 0:
            raise ConfigError("flow.window", f"must be odd, not {self.window}", "add 1")

    def rough(self) -> DisTorch:
        return replace(self, finest=min(self.finest + 1, 4))

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        images = target.image[None].float(), source.image[None].float()
        first = None if start is None else start.to(images[0])
        return self.estimate(*images, first)

    def offsets(self, first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
        both = torch.stack([first.image, second.image]).float()
        there, back = self.estimate(both, both.flip(0), None).split_with_sizes([1, 1])
        return there, back

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        there, back = self.offsets(first, second)
        return Flow(there, occlusion(there, back)), Flow(back, occlusion(back, there))

    def estimate(self, target: Tensor, source: Tensor, start: Tensor | None) -> Tensor:
        here, there = pyramid(target.clamp(0, 1)), pyramid(source.clamp(0, 1))
        # A first guess is trusted but for some pixels.
        last = min(self.finest, len(here) - 1)
        top = len(here) - 1 if start is None else min(last + 2, len(here) - 1)
        rest = torch.zeros_like(here[top][:, :2])
        offset = rest if start is None else scaled(start, rest)
        for level in range(top, last - 1, -1):
            offset = scaled(offset, here[level])
            offset = self.descended(here[level], there[level], offset)
        return scaled(offset, target)

    def descended(self, target: Tensor, source: Tensor, offset: Tensor) -> Tensor:
        """The offsets of one level after all steps."""
        if fused(target.device):
            from rerender.flow import _triton_dis

            images = target, source, offset
            return _triton_dis.descended(*images, self.steps, self.window, NOISE, FIT)
        gx, gy = gradients(target)
        products = [(gx * gx).sum(1), (gx * gy).sum(1), (gy * gy).sum(1)]
        xx, xy, yy = self.mean(torch.stack(products, 1)).unbind(1)
        xx, yy = xx + NOISE, yy + NOISE
        scale = 1 / (xx * yy - xy * xy)
        for _ in range(self.steps):
            error = warp(source, offset, outside="border") - target
            sums = self.mean(torch.stack([(gx * error).sum(1), (gy * error).sum(1)], 1))
            xt, yt = sums.unbind(1)
            step = torch.stack([yy * xt - xy * yt, xx * yt - xy * xt], 1) * scale[:, None]
            offset = offset - step.clamp(-1, 1)
        # Each pixel takes the mean of the patches over it, mostly of those that fit.
        error = (warp(source, offset, outside="border") - target).abs().sum(1, keepdim=True)
        trust = (FIT + self.mean(error)).pow(-2)
        return self.mean(offset * trust) / self.mean(trust)

    def mean(self, planes: Tensor) -> Tensor:
        """Means over patches that end at the border of the image."""
        reach = self.window // 2
        sides = (1, self.window), (self.window, 1)
        for side, pad in zip(sides, ((0, reach), (reach, 0)), strict=True):
            planes = F.avg_pool2d(planes, side, 1, pad, count_include_pad=False)
        return planes


def pyramid(image: Tensor) -> list[Tensor]:
    """The image and its halves, down to the coarsest."""
    levels = [image]
    while min(levels[-1].shape[-2:]) >= 2 * COARSEST:
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    return levels


def scaled(offset: Tensor, like: Tensor) -> Tensor:
    """Offsets on another level's grid."""
    height, width = like.shape[-2:]
    rows, columns = offset.shape[-2:]
    if (rows, columns) == (height, width):
        return offset
    ratio = pair(offset, width / columns, height / rows).view(1, 2, 1, 1)
    return F.interpolate(offset, (height, width), mode="bilinear", align_corners=False) * ratio


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along x and y, with repeated borders."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    gx = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
    return gx, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
