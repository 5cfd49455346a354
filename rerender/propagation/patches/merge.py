"""Where a key frame was warped and where it was put together from patches: the better of the two.

Warping is exact to a fraction of a pixel but trusts flow; patches lie on whole pixels but find
what flow lost. Both are also done to the source key frame, which shows how well each explains the
source frame; where both do, their mean is better than either, since their errors differ.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.compiled import compiled, reassociated
from rerender.propagation.blending.blend import Guess
from rerender.propagation.motion.pixels import Pixels

Plane = NDArray[np.float32]

WINDOW = 7
"""Side of the box, in pixels, over which errors are averaged."""


def error(moved: Pixels, target: Pixels) -> Plane:
    """Mean squared difference of a colour channel over a window, ``[H,W]``, in squared levels."""
    squares = np.empty(target.shape[:2], np.float32)
    square(moved, target, squares)
    return boxed(squares)


def boxed(squares: Plane) -> Plane:
    """Errors of pixels averaged over the window."""
    mean: Plane = cv2.blur(squares, (WINDOW, WINDOW))
    return mean


def merge(warped: Guess, voted: Guess, tolerance: float) -> Guess:
    """The mean of both versions where their errors differ by less than ``tolerance`` levels, else
    the one with the smaller error; the error is that of the better one."""
    merged, least = np.empty_like(warped.image), np.empty_like(warped.error)
    scale = np.float32(0.25 / tolerance**2)
    weigh(warped.image, warped.error, voted.image, voted.error, scale, merged, least)
    return Guess(merged, least)


@compiled
def judge(
    row: Plane, shares: NDArray[np.float32], target: Plane, image: Plane, squares: Plane
) -> None:
    """A line ``[W,8]`` of both pictures of a key frame, moved to a frame, times ``shares [W]``: its
    style, and the mean squared difference of its source and the frame's line ``target [W,3]``."""
    for x in range(len(row)):
        total = np.float32(0)
        for c in range(3):
            image[x, c] = row[x, c] * shares[x]
            step = row[x, c + 3] * shares[x] - target[x, c]
            total += step * step
        squares[x] = total * np.float32(1 / 3)


@reassociated
def square(moved: Pixels, target: Pixels, squares: Plane) -> None:
    """Mean over channels of the squared difference."""
    height, width, _ = target.shape
    third = np.float32(1 / 3)
    for y in range(height):
        for x in range(width):
            total = np.float32(0)
            for c in range(3):
                step = moved[y, x, c] - target[y, x, c]
                total += step * step
            squares[y, x] = total * third


@reassociated
def weigh(
    a: Pixels, error_a: Plane, b: Pixels, error_b: Plane, scale: float, out: Pixels, least: Plane
) -> None:
    """The logistic mean of two images under their errors, and the mean error."""
    height, width, _ = a.shape
    for y in range(height):
        for x in range(width):
            odds = (error_a[y, x] - error_b[y, x]) * scale
            odds = min(max(odds, np.float32(-30)), np.float32(30))
            share = np.float32(1) / (np.float32(1) + np.exp(-odds))
            least[y, x] = error_a[y, x] + share * (error_b[y, x] - error_a[y, x])
            for c in range(3):
                out[y, x, c] = a[y, x, c] + share * (b[y, x, c] - a[y, x, c])
