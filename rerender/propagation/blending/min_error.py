"""Each pixel from the version with the smaller error, as the published system does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.flow._sample import sample
from rerender.propagation.blending.blend import Bidirectional, Blend, Guess
from rerender.propagation.motion.pixels import Pixels

Mask = NDArray[np.float32]
"""``[H,W]``: 1 where the right version is taken."""


@dataclass(frozen=True)
class MinError(Blend):
    """Hard selection by error and time, carried along the motion (paper section 4.2).

    The right version is taken where ``t e_left >= (1 - t) e_right``, and wherever the same point
    had it in the frame before.

    Attributes:
        published_pairing: compare with the right errors of the time-mirrored frame, as the
            published code does by mistake. Needs all frames of a segment at once.
    """

    published_pairing: bool = False

    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
        for pair, mask in selected(pairs, self.published_pairing):
            yield pick(pair, mask)


def pick(pair: Bidirectional, mask: Mask) -> Pixels:
    """Each pixel of the version that its mask says."""
    return np.where(mask[..., None] > 0, pair.right.image, pair.left.image)


def selected(
    pairs: Iterable[Bidirectional], mirrored: bool
) -> Iterator[tuple[Bidirectional, Mask]]:
    """Each pair with its selection mask."""
    mask: Mask | None = None
    for pair in mirror(list(pairs)) if mirrored else pairs:
        chosen = choose(pair)
        if mask is not None:
            chosen = np.maximum(chosen, sample(mask, pair.back.offset, cv2.INTER_NEAREST))
        mask = chosen
        yield pair, mask


def choose(pair: Bidirectional) -> Mask:
    """The selection of one frame by itself; at equal weighted errors the one nearer in time."""
    left, right = pair.time * pair.left.error, (1 - pair.time) * pair.right.error
    tie = pair.time > 0.5
    return np.where(left == right, tie, left > right).astype(np.float32)


def mirror(pairs: Sequence[Bidirectional]) -> Iterator[Bidirectional]:
    """The pairs with the right errors in reversed order of time."""
    for pair, other in zip(pairs, reversed(pairs), strict=True):
        yield pair._replace(right=Guess(pair.right.image, other.right.error))
