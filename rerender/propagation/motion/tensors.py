"""The variational step of `variational` for many flows at once, in torch, on any device.

The same equations and as many sweeps. Instead of row after row, pixels of one colour of a
checkerboard move at once and then those of the other, which a device does in parallel. Both orders
lead to the same solution; six sweeps end about as far from it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.compiled import fused
from rerender.flow.field import warp
from rerender.propagation.motion.variational import EDGE, NOISE, SIGMA, STIFFNESS, SWEEPS
from rerender.propagation.patches.tensors import reflected


def refine(source: Tensor, target: Tensor, offset: Tensor) -> Tensor:
    """The offsets ``[B,2,H,W]`` from target to source after one step at full resolution, of images
    ``[B,3,H,W]`` in levels and offsets in pixels."""
    moved = warp(source, offset, outside="border")
    xx, xy, yy, xt, yt = constancy(moved, target).unbind(1)
    across, down = smoothness(offset)
    tied = across[..., :-1] + across[..., 1:] + down[:, :-1] + down[:, 1:]
    a, c = xx + tied, yy + tied
    scale = 1 / (a * c - xy * xy)
    u, v = offset.unbind(1)
    data = torch.stack([xx * u + xy * v - xt, xy * u + yy * v - yt], 1)
    inverse = torch.stack([scale * c, -scale * xy, scale * a], 1)
    if fused(offset.device):
        from rerender.propagation.motion import triton_relax

        return triton_relax.relax(inverse, data, across, down, offset, SWEEPS)
    return relax(inverse, data, across, down, offset)


def constancy(moved: Tensor, target: Tensor) -> Tensor:
    """Products of gradients and differences (xx, xy, yy, xt, yt), ``[B,5,H,W]``, summed over
    colours and smoothed by a Gaussian."""
    both = F.pad(moved + target, (1, 1, 1, 1), mode="replicate")
    gx = 0.25 * (both[..., 1:-1, 2:] - both[..., 1:-1, :-2])
    gy = 0.25 * (both[..., 2:, 1:-1] - both[..., :-2, 1:-1])
    t = moved - target
    noise = float(NOISE)
    trust = noise / (noise**2 + t.square().sum(1)).sqrt()
    products = [gx * gx, gx * gy, gy * gy, gx * t, gy * t]
    terms = torch.stack([product.sum(1) * trust for product in products], 1)
    place = torch.arange(-2, 3, device=t.device, dtype=t.dtype)
    window = torch.exp(-place.square() / (2 * SIGMA**2))
    window = (window / window.sum()).expand(5, 1, 5)
    terms = F.conv2d(reflected(terms, 2), window[:, :, None], groups=5)
    return F.conv2d(terms, window[:, :, :, None], groups=5)


def smoothness(offset: Tensor) -> tuple[Tensor, Tensor]:
    """How strongly each pixel is tied to its left, ``[B,H,W+1]``, and to the one above,
    ``[B,H+1,W]``: weakly where flow jumps, not at all over the border."""
    right = F.pad(offset, (0, 1, 0, 0), mode="replicate").diff(dim=-1)
    down = F.pad(offset, (0, 0, 0, 1), mode="replicate").diff(dim=-2)
    jump = float(EDGE) + (right.square() + down.square()).sum(1)
    tie = float(STIFFNESS) / jump.sqrt()
    return F.pad(tie[..., :-1], (1, 1)), F.pad(tie[:, :-1], (0, 0, 1, 1))


def relax(inverse: Tensor, data: Tensor, across: Tensor, down: Tensor, offset: Tensor) -> Tensor:
    """Sweeps of ``s = J^-1 (data + sum of ties times neighbours)``, from ``offset``.

    Args:
        inverse: ``[B,3,H,W]`` of each pixel's symmetric 2x2 system: top left, beside, bottom right.
        data: ``[B,2,H,W]``.
        across: ties to the pixel at the left, ``[B,H,W+1]``.
        down: ties to the pixel above, ``[B,H+1,W]``.
        offset: ``[B,2,H,W]``.
    """
    height, width = offset.shape[-2:]
    x = torch.arange(width, device=offset.device)
    odd = (torch.arange(height, device=offset.device)[:, None] + x) % 2 == 1
    left, right = across[:, None, :, :-1], across[:, None, :, 1:]
    up, below = down[:, None, :-1], down[:, None, 1:]
    solved = F.pad(offset, (1, 1, 1, 1))
    inner = solved[..., 1:-1, 1:-1]
    for turn in range(2 * SWEEPS):
        total = torch.addcmul(data, left, solved[..., 1:-1, :-2])
        total.addcmul_(right, solved[..., 1:-1, 2:])
        total.addcmul_(up, solved[..., :-2, 1:-1]).addcmul_(below, solved[..., 2:, 1:-1])
        u, v = total[:, :1], total[:, 1:]
        moved = torch.addcmul(inverse[:, :2] * u, inverse[:, 1:], v)
        inner.copy_(torch.where(odd if turn % 2 else ~odd, moved, inner))
    return inner.contiguous()
