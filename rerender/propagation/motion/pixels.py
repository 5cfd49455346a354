"""Between the project's images and the arrays that OpenCV and Numba work on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender.compiled import compiled

Pixels = NDArray[np.float32]
"""An image ``[H,W,3]``, RGB, in 8-bit levels (0..255, not rounded)."""


def levels(image: Tensor) -> Pixels:
    """An image ``[3,H,W]`` in 0..1 as ``[H,W,3]`` in 0..255; values outside are clipped."""
    planes = image.detach().to("cpu", torch.float32).contiguous().numpy()
    found = np.empty((*planes.shape[1:], 3), np.float32)
    interleave(planes, found)
    return found


def image(pixels: Pixels) -> Tensor:
    """``[H,W,3]`` in 0..255 as an image ``[3,H,W]`` in 0..1; values outside are clipped."""
    planes = np.empty((3, *pixels.shape[:2]), np.float32)
    separate(pixels, planes)
    return torch.from_numpy(planes)


def half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """An array in half precision, rounded to the nearest: by PyTorch, which takes the processor's
    own instruction for it where NumPy does it number by number, twenty times slower."""
    rounded: NDArray[np.float16] = torch.from_numpy(values).half().numpy()
    return rounded


def single(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """`half` again in single precision."""
    exact: NDArray[np.float32] = torch.from_numpy(values).float().numpy()
    return exact


@compiled
def interleave(planes: NDArray[np.float32], out: Pixels) -> None:
    """``[3,H,W]`` in 0..1 to ``[H,W,3]`` in 0..255, clipped."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for c in range(3):
                value = min(max(planes[c, y, x], np.float32(0)), np.float32(1))
                out[y, x, c] = value * np.float32(255)


@compiled
def separate(pixels: Pixels, out: NDArray[np.float32]) -> None:
    """``[H,W,3]`` in 0..255 to ``[3,H,W]`` in 0..1, clipped."""
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            for c in range(3):
                value = pixels[y, x, c] * np.float32(1 / 255)
                out[c, y, x] = min(max(value, np.float32(0)), np.float32(1))


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
