"""Flow fields as pure mathematics: warp, resize, forward-backward occlusion.

A flow *from target to source* says for every target pixel ``p`` where it is found in the
source: ``target(p) = source(p + offset(p))``. Offsets are in pixels, order (x, y). The centre of
the top-left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bilinear", "nearest", "bicubic"]
Outside = Literal["zeros", "border"]


@dataclass(frozen=True)
class Flow:
    """Where each target pixel is found in the source.

    Attributes:
        offset: ``[1,2,H,W]`` in pixels, (x, y), from target to source.
        occluded: ``[1,1,H,W]`` in 0..1; 1 where the target pixel is not visible in the source.
    """

    offset: Tensor
    occluded: Tensor

    def warp(
        self, image: Tensor, mode: Interpolation = "bilinear", outside: Outside = "zeros"
    ) -> Tensor:
        """The source ``[1,C,H,W]`` (or ``[C,H,W]``) seen from the target. Pixels that leave the
        image by half a pixel or less are not occluded (`occlusion`): whoever weighs by that alone
        takes ``outside="border"``, or the image's rim mixes with zeros."""
        batched = image if image.dim() == 4 else image[None]
        warped = warp(batched, self.offset.to(batched), mode, outside)
        return warped if image.dim() == 4 else warped[0]


def identity(height: int, width: int) -> Flow:
    """The flow of a still scene: no motion, nothing occluded."""
    return Flow(torch.zeros(1, 2, height, width), torch.zeros(1, 1, height, width))


def warp(
    image: Tensor, offset: Tensor, mode: Interpolation = "bilinear", outside: Outside = "zeros"
) -> Tensor:
    """Backward warp ``out(p) = image(p + offset(p))``.

    Args:
        image: ``[B,C,H,W]``.
        offset: ``[B,2,H,W]`` (or ``[1,2,H,W]``) in pixels, (x, y).
        mode: interpolation between pixels.
        outside: what is seen outside the image: zero, or its nearest pixel.

    Returns:
        ``[B,C,H,W]``.
    """
    height, width = image.shape[-2:]
    # Pixel p sits at 2p/(n-1) - 1 with align_corners=True; a side of one pixel has no extent.
    scale = pair(offset, 2 / max(width - 1, 1), 2 / max(height - 1, 1))
    grid = (pixel_grid(offset) + offset).permute(0, 2, 3, 1) * scale - 1
    return F.grid_sample(
        image,
        grid.expand(image.shape[0], -1, -1, -1),
        mode=mode,
        padding_mode=outside,
        align_corners=True,
    )


def pair(like: Tensor, x: float, y: float) -> Tensor:
    """The two numbers ``[2]`` in the type and on the device of ``like``, filled there: the
    processor waits for a copy of numbers to a device, not for a fill."""
    return torch.cat([like.new_full((1,), x), like.new_full((1,), y)])


def pixel_grid(like: Tensor) -> Tensor:
    """Coordinates (x, y) of every pixel, ``[1,2,H,W]``, in the dtype and device of ``like``."""
    height, width = like.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y])[None]


def resize(flow: Flow, height: int, width: int) -> Flow:
    """The same motion on another grid: offsets are resampled and rescaled, occlusion keeps
    every pixel that is partly occluded (maximum over the area it covers)."""
    old_height, old_width = flow.offset.shape[-2:]
    scale = pair(flow.offset, width / old_width, height / old_height).view(1, 2, 1, 1)
    offset = F.interpolate(flow.offset, (height, width), mode="bilinear", align_corners=False)
    occluded = F.adaptive_max_pool2d(flow.occluded, (height, width))
    return Flow(offset * scale, occluded)


def occlusion(forward: Tensor, backward: Tensor) -> Tensor:
    """Forward-backward consistency test on Euclidean norms, as the published system runs it.

    Occluded where ``|f(p) + b(p + f(p))| > 0.01 (|f(p)| + |b(p)|) + 0.5``. UnFlow, which it
    cites, squares the norms and warps ``b`` in the bound as well. Pixels that leave the image
    read a zero opposite flow and are flagged once they move more than about half a pixel.

    Args:
        forward: ``[1,2,H,W]`` offsets target -> source.
        backward: ``[1,2,H,W]`` offsets source -> target.

    Returns:
        ``[1,1,H,W]`` float, 1 where the target pixel is occluded in the source.
    """
    returned = forward + warp(backward, forward)
    bound = 0.01 * (norm(forward) + norm(backward)) + 0.5
    return (norm(returned) > bound).to(forward.dtype)


def norm(offset: Tensor) -> Tensor:
    """Length of every offset in pixels, ``[B,1,H,W]``."""
    # A sum over a dimension of length two is slow; the two planes are not.
    x, y = offset[:, :1], offset[:, 1:]
    return (x.square() + y.square()).sqrt()


def colored(flow: Flow) -> Tensor:
    """A picture ``[3,H,W]`` of the motion: hue is direction, saturation is speed relative to the
    fastest pixel, and what is occluded is dark."""
    x, y = flow.offset[0, 0], flow.offset[0, 1]
    speed = norm(flow.offset)[0, 0]
    strength = speed / speed.max().clamp_min(1e-6)
    angle = torch.atan2(y, x)
    # Three cosines a third of a turn apart make a colour wheel without a conversion table.
    turns = (0.0, 2 * torch.pi / 3, 4 * torch.pi / 3)
    wheel = torch.stack([0.5 + 0.5 * torch.cos(angle - turn) for turn in turns])
    return (1 - strength * (1 - wheel)) * (1 - 0.7 * flow.occluded[0])
