"""Guides, warping, judging and merging for many frames at once, in torch, on any device.

The same arithmetic as the compiled loops of `guides`, `cubic` and `merge`, which stay the reference
on the processor. Sums are rounded in another order, so results agree to float32, not in bytes.
Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.compiled import fused
from rerender.flow.field import warp
from rerender.propagation.patches.guides import Guides
from rerender.propagation.patches.merge import WINDOW
from rerender.propagation.patches.simd import BARE, CHANNELS, SIDE, SIMD_WIDTH


class Guesses(NamedTuple):
    """`blending.blend.Guess` of ``B`` frames.

    Attributes:
        image: ``[B,H,W,3]`` in levels.
        error: ``[B,H,W]`` in squared levels.
        detail: ``[B,ceil(H/4),ceil(W/4)]``, or None.
    """

    image: Tensor
    error: Tensor
    detail: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Guesses:
        """All of its tensors changed alike."""
        detail = None if self.detail is None else change(self.detail)
        return Guesses(change(self.image), change(self.error), detail)


@lru_cache(maxsize=64)
def mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """The places -reach..length-1+reach of a line reflected about its first and last pixel, as
    OpenCV's default border (BORDER_REFLECT_101) reads them; a line of one pixel repeats it."""
    period = max(2 * (length - 1), 1)
    place = torch.arange(-reach, length + reach, device=device) % period
    return torch.minimum(place, period - place).clamp(max=length - 1)


def reflected(planes: Tensor, reach: int) -> Tensor:
    """``[B,C,H,W]`` with a reflected border of ``reach`` pixels."""
    height, width = planes.shape[-2:]
    rows = mirrored(height, reach, planes.device)
    columns = mirrored(width, reach, planes.device)
    return planes.index_select(-2, rows).index_select(-1, columns)


def box(planes: Tensor, side: int) -> Tensor:
    """The mean of ``[B,C,H,W]`` over a box of odd ``side``, as `cv2.blur` takes it."""
    if fused(planes.device) and side // 2 < min(planes.shape[-2:]):
        from rerender.flow import _triton_box

        return _triton_box.box(planes, side, reflect=True)
    across = F.avg_pool2d(reflected(planes, side // 2), (1, side), 1)
    return F.avg_pool2d(across, (side, 1), 1)


def area(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Means over the areas of ``size`` cells, as `cv2.INTER_AREA` shrinks."""
    height, width = planes.shape[-2:]
    down = cells(height, size[0], planes.device)
    across = cells(width, size[1], planes.device)
    return down @ planes @ across.T


@lru_cache(maxsize=64)
def cells(length: int, count: int, device: torch.device) -> Tensor:
    """``[count,length]`` how much of each of ``count`` equal cells a pixel of a line covers."""
    first = torch.arange(count, device=device, dtype=torch.float64)[:, None] * (length / count)
    pixel = torch.arange(length, device=device, dtype=torch.float64)
    overlap = torch.minimum(first + length / count, pixel + 1) - torch.maximum(first, pixel)
    return (overlap.clamp(min=0) * (count / length)).float()


def edges(colour: Tensor) -> Tensor:
    """`guides.edges` of ``[B,H,W,3]`` in levels."""
    whole = reflected(colour.round().permute(0, 3, 1, 2), 1)
    middle = whole[..., 1:-1, 1:-1]
    around = whole[..., :-2, 1:-1] + whole[..., 2:, 1:-1]
    around = around + whole[..., 1:-1, :-2] + whole[..., 1:-1, 2:]
    return (around - 4 * middle).clamp(0, 255).permute(0, 2, 3, 1)


def pack(
    guides: Guides, style: Tensor, colour: Tensor, edge: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor]:
    """`Guides.pack` of ``[B,H,W,3]`` in levels and ``offset [B,H,W,2]``: all guides
    ``[B,H+4,W+4,16]`` and the bare ones ``[B,H+4,W+4,8]``, bytes."""
    _, height, width, _ = style.shape
    scales = guides.scales().tolist()
    levels = [
        image.clamp(0, 255) * s for image, s in zip((style, colour, edge), scales[:3], strict=True)
    ]
    x = torch.arange(width, device=style.device)
    y = torch.arange(height, device=style.device)[:, None]
    u = (x + offset[..., 0]) * (255 / max(width - 1, 1))
    v = (y + offset[..., 1]) * (255 / max(height - 1, 1))
    place = torch.stack([u, v], -1).clamp(0, 255) * scales[3]
    whole = torch.cat([*levels, place], -1)
    packed = F.pad((whole + 0.5).to(torch.uint8), (0, CHANNELS - whole.shape[-1]))
    bare = F.pad(packed[..., 3:9], (0, BARE - 6))
    return bordered(packed), bordered(bare)


def bordered(images: Tensor) -> Tensor:
    """``[B,H,W,C]`` with two repeated pixels on every side."""
    _, height, width, _ = images.shape
    rows = torch.arange(-2, height + 2, device=images.device).clamp(0, height - 1)
    columns = torch.arange(-2, width + 2, device=images.device).clamp(0, width - 1)
    return images.index_select(1, rows).index_select(2, columns)


def paired(style: Tensor, source: Tensor) -> Tensor:
    """`cubic.paired` of ``[B,H,W,3]`` in levels: ``[B,H+4,W+4,8]``."""
    return bordered(F.pad(torch.cat([style, source], -1), (0, SIMD_WIDTH - 6)))


def warped(both: Tensor, offset: Tensor, target: Tensor) -> Guesses:
    """`cubic.warped`: key frames ``[B,H+4,W+4,8]`` moved by ``offset [B,H,W,2]``, judged by
    ``target [B,H,W,3]``."""
    if fused(both.device):
        from rerender.propagation.patches import triton_pictures

        return judged(triton_pictures.warp(both.contiguous(), offset.contiguous()), target)
    # PyTorch's bicubic kernel is Keys' with the same slope, and clamps each of its taps.
    planes = both[:, 2:-2, 2:-2].permute(0, 3, 1, 2)
    moved = warp(planes, offset.permute(0, 3, 1, 2), "bicubic", "border")
    return judged(moved.permute(0, 2, 3, 1), target)


def judged(both: Tensor, target: Tensor) -> Guesses:
    """Style, and error of the source, of moved key frames ``[B,H,W,8]``."""
    squares = (both[..., 3:6] - target).square().mean(-1)
    return Guesses(both[..., :3], box(squares[:, None], WINDOW)[:, 0])


def settled(sums: Tensor, target: Tensor) -> Guesses:
    """`votes.settled`: sums of patches ``[B,H,W,8]`` divided by their number, judged."""
    _, height, width, _ = target.shape
    rows, columns = (covering(n, target.device) for n in (height, width))
    return judged(sums * (1 / (rows[:, None] * columns))[..., None], target)


def covering(length: int, device: torch.device) -> Tensor:
    """How many patches cover each place of a line."""
    place, reach = torch.arange(length, device=device), SIDE // 2
    return (place + reach + 1).clamp(max=length) - (place - reach).clamp(min=0)


def merge(a: Guesses, b: Guesses, tolerance: float) -> Guesses:
    """`merge.merge`: the logistic mean of warped and voted frames under their errors."""
    odds = (a.error - b.error) * (0.25 / tolerance**2)
    share = torch.sigmoid(odds.clamp(-30, 30))
    return Guesses(
        torch.lerp(a.image, b.image, share[..., None]), torch.lerp(a.error, b.error, share)
    )
