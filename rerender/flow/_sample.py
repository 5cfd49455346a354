"""Looking up arrays along offsets: `rerender.flow.field.warp` for arrays, and much faster."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray


def sample(
    values: NDArray[np.float32],
    offset: NDArray[np.float32],
    interpolation: int = cv2.INTER_LINEAR,
    border: float | None = None,
) -> NDArray[np.float32]:
    """``out(p) = values(p + offset(p))`` of ``[H,W]`` or ``[H,W,C]``.

    Outside the image the nearest pixel is taken, or the value ``border``.
    """
    where = grid(*offset.shape[:2]) + offset
    mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
    found: NDArray[np.float32] = cv2.remap(
        values, where, None, interpolation, borderMode=mode, borderValue=border or 0.0
    )
    return found


@lru_cache(maxsize=4)
def grid(height: int, width: int) -> NDArray[np.float32]:
    """Coordinates (x, y) of every pixel, ``[H,W,2]``, shared and therefore read-only."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    coordinates = np.stack([x, y], axis=-1)
    coordinates.flags.writeable = False
    return coordinates
