"""Patches vote for pixels: the mean of all that cover one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerender.propagation.compiled import compiled
from rerender.propagation.kernels import Matches
from rerender.propagation.pixels import Pixels
from rerender.propagation.vectors import SIDE

Sums = NDArray[np.float32]
"""``[H+4,W+4,C]``: sums of patches; nothing is complete in the border of two pixels."""


@compiled
def vote(pictures: Sums, matches: Matches, stride: int) -> Sums:
    """The sum of all patches over each pixel.

    Args:
        pictures: ``[H+4,W+4,C]`` of the source, with a border of two repeated pixels; C is a
            multiple of 4, so that a row of a patch fills whole vector registers.
        matches: the match of every grid point.
        stride: pixels between grid points.
    """
    pitch, row_length = pictures.shape[1] * pictures.shape[2], SIDE * pictures.shape[2]
    channels = pictures.shape[2]
    flat = pictures.reshape(-1)
    sums = np.zeros(len(flat), np.float32)
    for j in range(matches.shape[0]):
        for i in range(matches.shape[1]):
            here = matches[j, i, 1] * pitch + matches[j, i, 0] * channels
            there = j * stride * pitch + i * stride * channels
            for row in range(SIDE):
                a, b = there + row * pitch, here + row * pitch
                for k in range(row_length):
                    sums[np.uint64(a + k)] += flat[np.uint64(b + k)]
    return sums.reshape(pictures.shape)


@compiled
def mean(sums: Sums, first: int, stride: int, out: Pixels) -> None:
    """The mean ``[H,W,3]`` of all patches over each pixel, from channels ``first`` to
    ``first + 2`` of the sums of `vote`."""
    height, width, _ = out.shape
    across, down = shares(width, stride), shares(height, stride)
    for y in range(height):
        for x in range(width):
            share = down[y] * across[x]
            for c in range(3):
                out[y, x, c] = sums[y + 2, x + 2, np.uint64(first + c)] * share


@compiled
def shares(length: int, stride: int) -> NDArray[np.float32]:
    """One over the number of patches that cover each place along one axis."""
    count = np.zeros(length + 4, np.float32)
    for centre in range(0, length, stride):
        count[centre : centre + SIDE] += 1
    count[2:-2] = np.float32(1) / count[2:-2]
    return count[2:-2]
