"""Images as files of pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # whoever writes other files waits for no torch
    from torch import Tensor


def png(image: Tensor) -> bytes:
    """An 8-bit PNG file of an image ``[3,H,W]`` or ``[1,H,W]``; values outside 0..1 are clipped.

    Args:
        image: numbers in 0..1, or levels in 8 bits.

    Raises:
        ValueError: the image is not finite or has another number of channels.
    """
    from torch import uint8

    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"a picture is [3,H,W] or [1,H,W], received {list(image.shape)}")
    found = image.cpu() if image.dtype == uint8 else levels(image)
    pixels = np.ascontiguousarray(found.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def levels(image: Tensor) -> Tensor:
    """An image of numbers in 0..1 in 8 bits; values outside are clipped.

    Raises:
        ValueError: the image is not finite.
    """
    pixels = image.detach().float().cpu()
    if not bool(pixels.isfinite().all()):
        raise ValueError("a picture holds NaN or infinity")
    return (pixels.clamp(0, 1) * 255).round().byte()
