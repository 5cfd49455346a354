"""Between the project's images and the arrays that OpenCV and Numba work on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.float32]
"""An image ``[H,W,3]``, RGB, in 8-bit levels (0..255, not rounded)."""


def levels(image: Tensor) -> Pixels:
    """An image ``[3,H,W]`` in 0..1 as ``[H,W,3]`` in 0..255; values outside are clipped."""
    plain = image.detach().to("cpu", torch.float32).clamp(0, 1).mul(255)
    return np.ascontiguousarray(plain.permute(1, 2, 0).numpy())


def image(pixels: Pixels) -> Tensor:
    """``[H,W,3]`` in 0..255 as an image ``[3,H,W]`` in 0..1; values outside are clipped."""
    return torch.from_numpy(pixels).permute(2, 0, 1).mul(1 / 255).clamp_(0, 1).contiguous()


def plane(tensor: Tensor) -> NDArray[np.float32]:
    """``[1,1,H,W]`` as ``[H,W]``."""
    return tensor[0, 0].detach().to("cpu", torch.float32).numpy()


def vectors(offset: Tensor) -> NDArray[np.float32]:
    """Offsets ``[1,2,H,W]`` as ``[H,W,2]``."""
    plain: NDArray[np.float32] = offset[0].detach().to("cpu", torch.float32).numpy()
    return np.ascontiguousarray(plain.transpose(1, 2, 0))


def offsets(field: NDArray[np.float32]) -> Tensor:
    """``[H,W,2]`` as offsets ``[1,2,H,W]``."""
    return torch.from_numpy(field).permute(2, 0, 1)[None]
