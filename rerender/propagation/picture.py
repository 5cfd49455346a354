"""A key frame in all the forms that patches and warping need."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.flow.sample import sample
from rerender.propagation import pixels
from rerender.propagation.blend import Guess
from rerender.propagation.guides import Guides, bare, edges
from rerender.propagation.kernels import Matches
from rerender.propagation.merge import error
from rerender.propagation.pixels import Pixels
from rerender.propagation.search import Guided
from rerender.propagation.votes import mean, vote
from rerender.video import Frame, Video

Both = NDArray[np.float32]
"""Style and source ``[H+4,W+4,8]`` in levels with a border of two repeated pixels; the last two
channels are empty, so that a pixel fills one vector register."""


@dataclass(frozen=True)
class Picture:
    """A key frame, ready to be warped and put together from patches.

    Attributes:
        style: the translated key frame.
        source: the source key frame.
        both: the two in one array.
        guided: its guides.
    """

    style: Pixels
    source: Pixels
    both: Both
    guided: Guided

    @classmethod
    def of(cls, key: Frame, video: Video, guides: Guides) -> Picture:
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        still = np.zeros((*style.shape[:2], 2), np.float32)
        packed = guides.pack(style, source, edges(source), still)
        both = np.pad(np.dstack([style, source, still]), ((2, 2), (2, 2), (0, 0)), "edge")
        return cls(style, source, both, Guided(packed, bare(packed)))

    def warped(self, offset: NDArray[np.float32], target: Pixels) -> Guess:
        """The key frame warped by flow."""
        return warped(self.style, self.source, offset, target)

    def voted(self, matches: Matches, stride: int, target: Pixels) -> Guess:
        """The key frame put together from patches."""
        return counted(vote(self.both, matches, stride), stride, target)


def counted(sums: Both, stride: int, target: Pixels) -> Guess:
    """Summed patches of both pictures as a guess."""
    image, source = np.empty_like(target), np.empty_like(target)
    mean(sums, 0, stride, image)
    mean(sums, 3, stride, source)
    return Guess(image, error(source, target))


def warped(style: Pixels, source: Pixels, offset: NDArray[np.float32], target: Pixels) -> Guess:
    """A key frame warped by flow, and how well its source frame warped alike explains the target.

    Cubic convolution; outside the image the nearest pixel is taken.
    """
    image = sample(style, offset, cv2.INTER_CUBIC)
    return Guess(image, error(sample(source, offset, cv2.INTER_CUBIC), target))
