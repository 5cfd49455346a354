"""Texture that each key frame has of its own: how strong it was, and whether the two agree.

On the way from a key frame to a frame detail is lost: patches that lie on different places of the
key frame average it away, the more the faster things move. Where key frames agree, what is left is
the best guess. Where each has a texture of its own (a diffusion model's, a painter's), there is no
right detail, and a frame between them should have as much of it as they have.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.compiled import reassociated
from rerender.propagation.motion.pixels import Pixels

Plane = NDArray[np.float32]

STRIDE = 4
"""Pixels between those for which the strength of detail is kept: it changes slowly."""

SPARSE = 2
"""Pixels between those, and lines, on which two versions are compared."""


def strength(high: Pixels, window: int) -> Plane:
    """The mean square of detail ``[H,W,3]``, summed over channels, over a window: ``[H,W]`` in
    squared levels."""
    mean: Plane = cv2.blur(np.square(high).sum(2), (window, window))
    return mean


def taken(detail: Plane, matches: NDArray[np.int16]) -> Plane:
    """The strength of detail where patches were taken from, ``[ceil(H/4),ceil(W/4)]``.

    Args:
        detail: `strength` of the key frame.
        matches: ``[H,W,2]`` the pixel (x, y) of the key frame for each pixel of the frame.
    """
    places = matches[::STRIDE, ::STRIDE]
    return detail[places[..., 1], places[..., 0]]


def whole(detail: Plane, like: Plane) -> Plane:
    """`taken` in full size."""
    full: Plane = cv2.resize(detail, like.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return full


@reassociated
def disagreement(
    left: Pixels,
    left_low: Pixels,
    left_error: Plane,
    right: Pixels,
    right_low: Pixels,
    right_error: Plane,
    scale: float,
) -> float:
    """The share of detail on which two versions of a frame disagree: the summed square of the
    difference of their high bands over the sum of the squares of both. 0 for equal ones, 1 for
    independent ones.

    Only what both explain counts, by ``exp(-scale (e_left + e_right))``: elsewhere flow has failed,
    and says nothing of the key frames.
    """
    height, width, _ = left.shape
    apart, all_ = 0.0, 1e-6
    for y in range(0, height, SPARSE):
        for x in range(0, width, SPARSE):
            trust = np.exp(-scale * (left_error[y, x] + right_error[y, x]))
            step, both = np.float32(0), np.float32(1)
            for c in range(3):
                a, b = left[y, x, c] - left_low[y, x, c], right[y, x, c] - right_low[y, x, c]
                step += (a - b) * (a - b)
                both += a * a + b * b
            apart += trust * step
            all_ += trust * both
    return apart / all_
