"""Colour correction of the source: the paper's "preserve colour" switched off (web interface).

The source takes the colour distribution of a first result, but keeps its own luminosity.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LUMA = (0.30, 0.59, 0.11)  # W3C compositing, "luminosity" blend mode


def recolor(image: Tensor, reference: Tensor) -> Tensor:
    """An image with the Lab histogram of another one and its own luminosity.

    Args:
        image: ``[3,H,W]`` in 0..1, whose light and shadow are kept.
        reference: ``[3,h,w]`` in 0..1, whose colours are taken.

    Returns:
        ``[3,H,W]`` in 0..1.
    """
    source, target = _lab(image), _lab(reference)
    matched = np.stack([_match(source[..., c], target[..., c]) for c in range(3)], -1)
    colored = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB)
    return set_luminosity(torch.from_numpy(colored).permute(2, 0, 1).clamp(0, 1), image)


def _lab(image: Tensor) -> NDArray[np.float32]:
    pixels = image.clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2LAB))


def _match(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Monotone map that gives ``source`` the distribution of ``target`` (quantile matching)."""
    _, inverse, counts = np.unique(source.ravel(), return_inverse=True, return_counts=True)
    quantiles = np.cumsum(counts) / source.size
    wanted = np.interp(
        quantiles, (np.arange(target.size) + 1) / target.size, np.sort(target.ravel())
    )
    return wanted[inverse].reshape(source.shape)


def set_luminosity(color: Tensor, light: Tensor) -> Tensor:
    """Hue and saturation of ``color``, luminosity of ``light``; both ``[3,H,W]`` in 0..1."""
    weights = color.new_tensor(LUMA).view(3, 1, 1)
    wanted = (light.to(color) * weights).sum(0, keepdim=True)
    shifted = color + wanted - (color * weights).sum(0, keepdim=True)
    low, high = shifted.amin(0, keepdim=True), shifted.amax(0, keepdim=True)
    # Where the shift leaves the cube, saturation gives way and luminosity stays.
    down = wanted / (wanted - low).clamp_min(1e-6)
    up = (1 - wanted) / (high - wanted).clamp_min(1e-6)
    one = torch.ones_like(wanted)
    scale = torch.minimum(torch.where(low < 0, down, one), torch.where(high > 1, up, one))
    return (wanted + (shifted - wanted) * scale).clamp(0, 1)
