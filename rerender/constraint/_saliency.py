"""What of a picture is background, by its spectral residual (Hou & Zhang, CVPR 2007)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64  # pixels of the longer side at which saliency is measured, as in its paper
THRESHOLD = 3.0  # a cell is salient above so many means of the map
SPREAD = 7  # cells of the box over the map, thrice: nearly the paper's Gaussian


def background(image: Tensor) -> Tensor:
    """1 where a picture is not salient, falling to 0 where it is.

    The log spectrum less its local average is what is unusual in a picture; brought back with the
    picture's phase it says where.

    Args:
        image: ``[3,H,W]`` in 0..1.

    Returns:
        ``[1,H,W]`` in 0..1.
    """
    height, width = image.shape[-2:]
    scale = SIDE / max(height, width)
    size = (max(round(height * scale), 2), max(round(width * scale), 2))
    grey = F.interpolate(image.mean(0)[None, None].float(), size, mode="area")
    spectrum = torch.fft.fft2(grey)
    logs = spectrum.abs().clamp_min(1e-8).log()
    residual = logs - _box(logs, 3)
    unusual = torch.fft.ifft2(torch.polar(residual.exp(), spectrum.angle())).abs().square()
    for _ in range(3):
        unusual = _box(unusual, SPREAD)
    salient = (unusual / (THRESHOLD * unusual.mean()).clamp_min(1e-12)).clamp(0, 1)
    grown = F.interpolate(salient, (height, width), mode="bilinear", align_corners=False)
    return (1 - grown[0]).to(image)


def _box(plane: Tensor, side: int) -> Tensor:
    padded = F.pad(plane, (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, side, stride=1)
