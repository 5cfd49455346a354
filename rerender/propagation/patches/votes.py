"""Patches vote for pixels: the mean of all that cover one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerender.compiled import compiled
from rerender.propagation.blending.blend import Guess
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches.cubic import Both
from rerender.propagation.patches.kernels import Matches
from rerender.propagation.patches.merge import boxed, judge
from rerender.propagation.patches.simd import SIDE, SIMD_WIDTH, gathered

REACH = SIDE // 2
"""Pixels from the centre of a patch to its edge."""


def vote(both: Both, matches: Matches, target: Pixels) -> Guess:
    """The key frame put together from patches, and how well its source, put together alike,
    explains the target.

    Args:
        both: style and source of the key frame (see `cubic`).
        matches: ``[H,W,2]`` the pixel (x, y) of the key frame on which each patch's centre lies.
        target: ``[H,W,3]``.
    """
    image, squares = np.empty_like(target), np.empty(target.shape[:2], np.float32)
    gather(both, matches, target, image, squares)
    return Guess(image, boxed(squares))


def settled(sums: NDArray[np.float32], target: Pixels) -> Guess:
    """`vote`, of pictures ``[H,W,8]`` whose patches are already added up."""
    image, squares = np.empty_like(target), np.empty(target.shape[:2], np.float32)
    shares = counts(*target.shape[:2])
    for y, row in enumerate(sums):
        judge(row, shares[y], target[y], image[y], squares[y])
    return Guess(image, boxed(squares))


@compiled
def gather(both: Both, matches: Matches, target: Pixels, image: Pixels, squares: Pixels) -> None:
    """The mean of all patches over each pixel, line by line."""
    height, width, _ = matches.shape
    pitch, flat = both.shape[1] * SIMD_WIDTH, both.reshape(-1)
    places, shares = positions(matches, pitch), counts(height, width)
    row = np.empty((width, SIMD_WIDTH), np.float32)
    line = row.reshape(-1)
    for y in range(height):
        for x in range(width):
            inside = REACH <= y < height - REACH and REACH <= x < width - REACH
            if inside:
                first = (y - REACH) * width + x - REACH
                gathered(flat, places, first, width, pitch, line, x * SIMD_WIDTH)
            else:
                edge(flat, places, y, x, (height, width, pitch), row[x])
        judge(row, shares[y], target[y], image[y], squares[y])


@compiled
def positions(matches: Matches, pitch: int) -> NDArray[np.int32]:
    """Where each match lies in both pictures with their border, one after the other."""
    height, width, _ = matches.shape
    places = np.empty(height * width, np.int32)
    for y in range(height):
        for x in range(width):
            down = np.int64(matches[y, x, 1]) + REACH
            across = np.int64(matches[y, x, 0]) + REACH
            places[y * width + x] = down * pitch + across * SIMD_WIDTH
    return places


@compiled
def edge(
    flat: NDArray[np.float32],
    places: NDArray[np.int32],
    y: int,
    x: int,
    size: tuple[int, int, int],
    pixel: NDArray[np.float32],
) -> None:
    """`gathered` for a pixel near the edge of the image, over which fewer patches lie."""
    height, width, pitch = size
    pixel[:] = 0
    for j in range(max(y - REACH, 0), min(y + REACH + 1, height)):
        for i in range(max(x - REACH, 0), min(x + REACH + 1, width)):
            start = places[j * width + i] + (y - j) * pitch + (x - i) * SIMD_WIDTH
            for c in range(SIMD_WIDTH):
                pixel[c] += flat[start + c]


@compiled
def counts(height: int, width: int) -> NDArray[np.float32]:
    """One over the number of patches that cover each pixel, ``[H,W]``."""
    shares = np.empty((height, width), np.float32)
    for y in range(height):
        rows = min(y + REACH + 1, height) - max(y - REACH, 0)
        for x in range(width):
            columns = min(x + REACH + 1, width) - max(x - REACH, 0)
            shares[y, x] = np.float32(1) / np.float32(rows * columns)
    return shares
