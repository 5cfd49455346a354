"""A key frame in all the forms that patches and warping need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerender.propagation import pixels
from rerender.propagation.blend import Guess
from rerender.propagation.compiled import reassociated
from rerender.propagation.guides import Guides, bare, edges
from rerender.propagation.kernels import Matches
from rerender.propagation.merge import averaged, error
from rerender.propagation.pixels import Pixels
from rerender.propagation.search import Guided
from rerender.propagation.votes import mean, vote
from rerender.video import Frame, Video

Both = NDArray[np.float32]
"""Style and source ``[H+4,W+4,8]`` in levels with a border of two repeated pixels; the last two
channels are empty, so that a pixel fills one vector register."""


SHARP = np.float32(-0.75)
"""The slope of the cubic kernel at distance 1; OpenCV's. -0.5 loses 0.1 dB where keys agree."""


@dataclass(frozen=True)
class Picture:
    """A key frame, ready to be warped and put together from patches.

    Attributes:
        both: style and source.
        guided: its guides.
    """

    both: Both
    guided: Guided

    @classmethod
    def of(cls, key: Frame, video: Video, guides: Guides) -> Picture:
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        still = np.zeros((*style.shape[:2], 2), np.float32)
        packed = guides.pack(style, source, edges(source), still)
        return cls(together(style, source), Guided(packed, bare(packed)))

    def voted(self, matches: Matches, stride: int, target: Pixels) -> Guess:
        """The key frame put together from patches."""
        return counted(vote(self.both, matches, stride), stride, target)


def together(style: Pixels, source: Pixels) -> Both:
    """Both pictures of a key frame in one array."""
    empty = np.zeros((*style.shape[:2], 2), np.float32)
    return np.pad(np.dstack([style, source, empty]), ((2, 2), (2, 2), (0, 0)), "edge")


def counted(sums: Both, stride: int, target: Pixels) -> Guess:
    """Summed patches of both pictures as a guess."""
    image, source = np.empty_like(target), np.empty_like(target)
    mean(sums, 0, stride, image)
    mean(sums, 3, stride, source)
    return Guess(image, error(source, target))


def warped(both: Both, offset: NDArray[np.float32], target: Pixels) -> Guess:
    """A key frame warped by flow, and how well its source frame warped alike explains the target.

    Cubic convolution (Keys 1981); outside the image the nearest pixel is taken.
    """
    image, squares = np.empty_like(target), np.empty(target.shape[:2], np.float32)
    cubic(both.reshape(-1), offset, target, image, squares)
    return Guess(image, averaged(squares))


@reassociated
def cubic(
    both: NDArray[np.float32],
    offset: NDArray[np.float32],
    target: Pixels,
    image: Pixels,
    squares: NDArray[np.float32],
) -> None:
    """Write the warped style, and the mean squared difference of warped source and target."""
    height, width, _ = target.shape
    pitch = (width + 4) * 8
    sums, wx, wy = np.empty(8, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    zero, third = np.float32(0), np.float32(1 / 3)
    for y in range(height):
        for x in range(width):
            u = min(max(x + offset[y, x, 0], zero), np.float32(width - 1))
            v = min(max(y + offset[y, x, 1], zero), np.float32(height - 1))
            left, top = int(u), int(v)
            weights(u - np.float32(left), wx)
            weights(v - np.float32(top), wy)
            sums[:] = 0
            for row in range(4):
                corner = (top + 1 + row) * pitch + (left + 1) * 8
                for column in range(4):
                    weight = wy[row] * wx[column]
                    for c in range(8):
                        sums[c] += weight * both[np.uint64(corner + 8 * column + c)]
            total = zero
            for c in range(3):
                image[y, x, c] = sums[c]
                step = sums[3 + c] - target[y, x, c]
                total += step * step
            squares[y, x] = total * third


@reassociated
def weights(t: float, out: NDArray[np.float32]) -> None:
    """Of the four pixels around a place that lies ``t`` behind the second of them."""
    one = np.float32(1)
    s = one - t
    out[0] = SHARP * t * s * s
    out[1] = ((SHARP + 2) * t - (SHARP + 3)) * t * t + one
    out[2] = ((SHARP + 2) * s - (SHARP + 3)) * s * s + one
    out[3] = SHARP * s * t * t
