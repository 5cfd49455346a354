"""The published blend: a cross-fade of standardised colours with the contrast of a selection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from rerender.propagation.blending.blend import Bidirectional, Blend
from rerender.propagation.blending.min_error import Mask, pick, selected
from rerender.propagation.motion.pixels import Pixels

FLAT = np.float32(1e-3)
"""Standard deviation in Lab units below which a channel has no contrast to keep."""


@dataclass(frozen=True)
class Contrast(Blend):
    """Contrast-preserving blend in Lab (paper section 4.2, "histogram blending").

    Both versions are standardised per channel and cross-faded, and the result is given the mean and
    deviation of the min-error selection.

    Attributes:
        published_pairing: as of `MinError`.
    """

    published_pairing: bool = False

    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
        for pair, mask in selected(pairs, self.published_pairing):
            yield rgb(faded(pair, mask))


def faded(pair: Bidirectional, mask: Mask) -> Pixels:
    """The blend of one frame, in Lab."""
    left, right, chosen = lab(pair.left.image), lab(pair.right.image), lab(pick(pair, mask))
    fade = (1 - pair.time) * standard(left) + pair.time * standard(right)
    centre, spread = moments(chosen)
    result: Pixels = standard(fade.astype(np.float32)) * spread + centre
    return result


def standard(image: Pixels) -> Pixels:
    """Each channel with mean 0 and deviation 1; a channel without contrast is 0."""
    centre, spread = moments(image)
    scores: Pixels = (image - centre) / np.maximum(spread, FLAT)
    return scores


def moments(image: Pixels) -> tuple[Pixels, Pixels]:
    """Mean and standard deviation of each channel, ``[1,1,3]``."""
    mean, deviation = cv2.meanStdDev(image)
    return mean.reshape(1, 1, 3).astype(np.float32), deviation.reshape(1, 1, 3).astype(np.float32)


def lab(image: Pixels) -> Pixels:
    """Levels to CIE Lab: L 0..100, a and b about -127..127."""
    scaled = np.clip(image * np.float32(1 / 255), 0, 1)
    converted: Pixels = cv2.cvtColor(scaled, cv2.COLOR_RGB2Lab)
    return converted


def rgb(image: Pixels) -> Pixels:
    """CIE Lab to levels."""
    converted: Pixels = cv2.cvtColor(image, cv2.COLOR_Lab2RGB)
    converted *= np.float32(255)
    return converted
