"""Frames that a flash or a blackout has clipped, for a moment: motion passes over them.

What is clipped shows nothing to follow, so flow to such a frame is lost, and the frame with it. The
frames on either side of the flash show the same things in ordinary light: flow from one to the
other is estimated, and taken to be even in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rerender.propagation.motion.exposure import BRIGHTEST, DARKEST

LONGEST = 3
"""Frames that a flash lasts at most; over a longer time motion is not even."""

MORE = 0.05
"""Share of pixels that are clipped in a flash and in neither frame beside it."""

APART = 4
"""Pixels from one that is looked at to the next, along rows and columns."""


def clipped(image: Tensor) -> float:
    """The share of pixels of an image ``[3,H,W]`` in 0..1 of which a colour is clipped."""
    some = image[:, ::APART, ::APART]
    beyond = (some.amax(0) >= float(BRIGHTEST) / 255) | (some.amin(0) <= float(DARKEST) / 255)
    return float(beyond.float().mean())


def flashes(shares: Sequence[float]) -> list[range]:
    """Which of consecutive frames, the first and last left out, are in a flash: runs of positions.

    Args:
        shares: of each frame what `clipped` says.
    """
    found, start = [], 1
    while start < len(shares) - 1:
        # The longest run first: what follows a part of a flash may be clipped too.
        for stop in range(min(start + LONGEST, len(shares) - 1), start, -1):
            if min(shares[start:stop]) > max(shares[start - 1], shares[stop]) + MORE:
                found.append(range(start, stop))
                start = stop
                break
        start += 1
    return found
