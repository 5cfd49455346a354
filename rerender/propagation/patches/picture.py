"""A key frame in all the forms that patches and warping need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerender.propagation.motion import pixels
from rerender.propagation.patches.cubic import Both, paired
from rerender.propagation.patches.guides import GuidedPicture, Guides, edges
from rerender.video import Frame, Video


@dataclass(frozen=True)
class KeyPicture:
    """A key frame, ready to be warped and put together from patches.

    Attributes:
        both: the translated and the source key frame in one array.
        guides: its guides.
    """

    both: Both
    guides: GuidedPicture

    @classmethod
    def of(cls, key: Frame, video: Video, guides: Guides) -> KeyPicture:
        style, source = pixels.levels(key.image), pixels.levels(video[key.index])
        still = np.zeros((*style.shape[:2], 2), np.float32)
        return cls(paired(style, source), guides.pack(style, source, edges(source), still))
