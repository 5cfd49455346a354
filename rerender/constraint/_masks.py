"""Masks shared by the constraints that move pixels or latents between key frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DILATION = 9  # pixels; the side of the maximum filter and of the Gaussian window
SIGMA = 18.0  # pixels; with a window of 9 the Gaussian is almost a box
LARGE = 1 << 17
"""Pixels of a mask from which a processor takes shifted sums and maxima instead of torch's pooling
and convolution, which take forty and six times as long there, to the same bits."""


def soften(occluded: Tensor) -> Tensor:
    """Grow a hard mask by about 4 pixels and give it a ramp of about 4 more.

    ``clip(G(max9(o)) + o, 0, 1)`` with a 9x9 Gaussian of sigma 18, as the published system does.

    Args:
        occluded: ``[1,1,H,W]``, 0 or 1.

    Returns:
        ``[1,1,H,W]`` in 0..1.
    """
    if occluded.device.type == "cpu" and occluded.numel() >= LARGE:
        return blur_shifted(grow_shifted(occluded)).add_(occluded).clamp_(0, 1)
    grown = F.max_pool2d(occluded, DILATION, stride=1, padding=DILATION // 2)
    return (blur(grown) + occluded).clamp(0, 1)


def blur(mask: Tensor) -> Tensor:
    """A 9x9 Gaussian with reflected borders."""
    taps, padded = gaussian(mask), F.pad(mask, (DILATION // 2,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))


def gaussian(like: Tensor) -> Tensor:
    """The taps ``[9]`` of the Gaussian, in the type and on the device of a mask."""
    reach = DILATION // 2
    taps = torch.arange(-reach, reach + 1, dtype=like.dtype, device=like.device)
    taps = torch.exp(-(taps**2) / (2 * SIGMA**2))
    return taps / taps.sum()


def grow_shifted(mask: Tensor) -> Tensor:
    """The 9x9 maximum filter: windows of 2, 4 and 8 pixels, then of 9, along either side."""
    found = F.pad(mask, (DILATION // 2,) * 4, value=float("-inf"))
    for side in (-1, -2):
        for shift in (1, 2, 4, 1):
            length = found.shape[side] - shift
            parts = found.narrow(side, 0, length), found.narrow(side, shift, length)
            found = torch.maximum(*parts)
    return found


def blur_shifted(mask: Tensor) -> Tensor:
    """`blur`, added up shift by shift."""
    taps = [float(tap) for tap in gaussian(mask)]
    found = F.pad(mask, (DILATION // 2,) * 4, mode="reflect")
    for side in (-1, -2):
        length = found.shape[side] - DILATION + 1
        total = found.narrow(side, 0, length) * taps[0]
        for shift, tap in enumerate(taps[1:], 1):
            total.add_(found.narrow(side, shift, length), alpha=tap)
        found = total
    return found


def known(soft: Tensor, factor: int) -> Tensor:
    """Where a latent cell is known: 1 minus the worst pixel of the cell, ``[1,1,h,w]``."""
    return 1 - F.max_pool2d(soft, factor)


def flat(mask: Tensor) -> Tensor:
    """1 where a mask has no edge (both 3x3 Prewitt derivatives are exactly 0), else 0."""
    slope = torch.arange(-1, 2, dtype=mask.dtype, device=mask.device)
    box = torch.ones_like(slope)
    padded = F.pad(mask, (1, 1, 1, 1), mode="replicate")
    across = F.conv2d(padded, torch.outer(box, slope)[None, None])
    down = F.conv2d(padded, torch.outer(slope, box)[None, None])
    return ((across == 0) & (down == 0)).to(mask.dtype)
