"""A key frame in all the forms that patches and warping need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerender.propagation import pixels
from rerender.propagation.blend import Guess
from rerender.propagation.cubic import Both, paired, warped
from rerender.propagation.guides import Guides, bare, edges
from rerender.propagation.kernels import Matches
from rerender.propagation.merge import error
from rerender.propagation.pixels import Pixels
from rerender.propagation.search import Guided
from rerender.propagation.votes import mean, vote
from rerender.video import Frame, Video


@dataclass(frozen=True)
class Picture:
    """A key frame, ready to be warped and put together from patches.

    Attributes:
        both: the translated and the source key frame in one array.
        guided: its guides.
    """

    both: Both
    guided: Guided

    @classmethod
    def of(cls, key: Frame, video: Video, guides: Guides) -> Picture:
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        still = np.zeros((*style.shape[:2], 2), np.float32)
        packed = guides.pack(style, source, edges(source), still)
        return cls(paired(style, source), Guided(packed, bare(packed)))

    def warped(self, offset: NDArray[np.float32], target: Pixels) -> Guess:
        """The key frame warped by flow."""
        return warped(self.both, offset, target)

    def voted(self, matches: Matches, stride: int, target: Pixels) -> Guess:
        """The key frame put together from patches."""
        return counted(vote(self.both, matches, stride), stride, target)


def counted(sums: Both, stride: int, target: Pixels) -> Guess:
    """Summed patches of both pictures as a guess."""
    image, source = np.empty_like(target), np.empty_like(target)
    mean(sums, 0, stride, image)
    mean(sums, 3, stride, source)
    return Guess(image, error(source, target))
