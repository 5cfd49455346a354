"""A key frame's two pictures, translated and source, warped together by cubic convolution.

Both take the same place and weights at every pixel, which are most of the work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerender.compiled import reassociated
from rerender.propagation.blending.blend import Guess
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches.merge import boxed, judge
from rerender.propagation.patches.simd import SIMD_WIDTH, Four, weighted

Both = NDArray[np.float32]
"""Style and source ``[H+4,W+4,8]`` in levels with a border of two repeated pixels; the last two
channels are empty, so that a pixel fills one vector register."""

SHARPNESS = np.float32(-0.75)
"""Slope of the kernel one pixel away from its centre (Keys 1981 calls it a)."""


def paired(style: Pixels, source: Pixels) -> Both:
    """Both pictures ``[H,W,3]`` in one array."""
    empty = np.zeros((*style.shape[:2], 2), np.float32)
    return np.pad(np.dstack([style, source, empty]), ((2, 2), (2, 2), (0, 0)), "edge")


def warped(both: Both, offset: NDArray[np.float32], target: Pixels) -> Guess:
    """The key frame moved by ``offset [H,W,2]``, and how well its source, moved alike, explains the
    target ``[H,W,3]``. Outside the image the nearest pixel is taken."""
    image, squares = np.empty_like(target), np.empty(target.shape[:2], np.float32)
    convolve(both, offset, target, image, squares)
    return Guess(image, boxed(squares))


@reassociated
def convolve(
    both: Both, offset: NDArray[np.float32], target: Pixels, image: Pixels, squares: Pixels
) -> None:
    """Moved style, and mean squared difference of moved source and target."""
    height, width, _ = target.shape
    right, bottom = np.float32(width), np.float32(height)
    pitch = both.shape[1] * SIMD_WIDTH
    flat, row = both.reshape(-1), np.empty((width, SIMD_WIDTH), np.float32)
    line, whole = row.reshape(-1), np.ones(width, np.float32)
    for y in range(height):
        for x in range(width):
            # The kernel reaches one pixel further out than the border is wide.
            u = min(max(x + offset[y, x, 0], np.float32(-1)), right)
            v = min(max(y + offset[y, x, 1], np.float32(-1)), bottom)
            i = min(np.int64(u + np.float32(1)), width) - 1
            j = min(np.int64(v + np.float32(1)), height) - 1
            down, across = weights(np.float32(v - j)), weights(np.float32(u - i))
            # The border moves everything by two pixels, the kernel begins one before its centre.
            first = (j + 1) * pitch + (i + 1) * SIMD_WIDTH
            weighted(flat, first, pitch, down, across, line, x * SIMD_WIDTH)
        judge(row, whole, target[y], image[y], squares[y])


@reassociated
def weights(part: float) -> Four:
    """Weights of the pixels at -1, 0, 1 and 2 for a place ``part`` of a pixel after 0."""
    a, one, two, three = SHARPNESS, np.float32(1), np.float32(2), np.float32(3)
    rest = one - part
    outer = a * part * rest
    left, right = outer * rest, outer * part
    inner = ((a + two) * part - (a + three)) * part * part + one
    return left, inner, one - left - right - inner, right
