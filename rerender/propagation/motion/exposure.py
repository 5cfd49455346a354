"""Light that changes between frames, taken out before they are compared: flicker, flashes, lamps.

A frame and the key frame moved to it show the same things, so a smooth change of brightness between
the two is light and not motion. First one line of gain and offset for each colour over the whole
frame, then one about each place, coarse and fine. Each is believed only where it explains most of
the difference, and those of places only where structure agrees and next to nothing gets worse: a
thing that covers another is a difference too, but ends at an outline.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rerender.compiled import reassociated
from rerender.flow._sample import sample
from rerender.propagation.motion import exposure_kernels as kernels
from rerender.propagation.motion.pixels import Pixels

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

ROWS = 72
"""Light is estimated on frames whose shorter side is reduced to about so many pixels: to three
quarters of them at least, one and a half times as many at most. Smaller frames are left as they
are."""

SPARSE = 2
"""Pixels and lines from one to the next of those that light of the whole frame is estimated on."""

PARTS = (4, 8)
"""Windows of local light along the shorter side, coarse and fine."""

EXPLAINED, EXPLAINED_HERE = 0.6, 0.5
"""Largest share of the difference that light of the whole frame, and of a place, may leave."""

LEAST = 0.5
"""Levels below which a difference is not worth explaining."""

ALIKE = 0.9
"""Correlation of a frame and the moved key frame from which on they show the same."""

WORSE = 0.1
"""Largest share of a window that may get worse, by more than two levels."""

NOISE = 4.0
"""Levels of difference that are still noise; what is further off counts less and less."""

STIFF = 150.0
"""Squared levels of contrast below which local light is an offset rather than a gain."""

DARKEST, BRIGHTEST = np.float32(1.5), np.float32(253.5)
"""Levels beyond which a pixel is clipped and tells nothing of the light."""

GAINS = (0.2, 5.0)
"""Smallest and largest gain that is made up for."""


def reduction(height: int, width: int) -> int:
    """By how much frames of that size are reduced."""
    return max(round(min(height, width) / ROWS), 1)


class Light(NamedTuple):
    """What turns the colours of a frame into those of the key frame's light.

    Attributes:
        gain, lift: factor, and levels to be added then; ``[3]`` or ``[h,w,3]``.
    """

    gain: Plane
    lift: Plane


class Exposure:
    """Shows frames in the light of one key frame.

    Args:
        source: the source key frame ``[H,W,3]``.
    """

    def __init__(self, source: Pixels) -> None:
        height, width, _ = source.shape
        self._scale = reduction(height, width)
        self._source = source
        self._small = self.reduced(source)

    def reduced(self, image: Plane) -> Plane:
        """The image in the size in which light is estimated."""
        height, width = (max(side // self._scale, 1) for side in image.shape[:2])
        small: Plane = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return small

    def levelled(self, target: Pixels, offset: Plane) -> Pixels:
        """The frame as it would look in the light of the key frame; the frame itself where that
        explains nothing.

        Args:
            target: ``[H,W,3]`` the frame.
            offset: ``[H,W,2]`` from it to the key frame, roughly.
        """
        light = between(
            self.reduced(target), self._small, self.reduced(offset) / np.float32(self._scale)
        )
        if light is None:
            return target
        full = (target.shape[1], target.shape[0])
        gain, lift = (cv2.resize(field, full) for field in light)
        lit = np.empty_like(target)
        relight(target, gain, lift, sample(self._source, offset), lit)
        return lit


def between(target: Pixels, source: Pixels, offset: Plane) -> Light | None:
    """The light ``[h,w,3]`` that lies between two frames, if any does.

    Args:
        target, source: ``[h,w,3]``.
        offset: ``[h,w,2]`` from target to source.
    """
    moved = sample(source, offset.astype(np.float32))
    known = usable(target, moved, offset)
    if known.mean() < 0.05:
        return None
    some = np.s_[::SPARSE, ::SPARSE]
    light, found = whole(target[some], moved[some], known[some]), True
    if light is None:
        light, found = Light(np.ones(3, np.float32), np.zeros(3, np.float32)), False
    gain, lift = (np.broadcast_to(part, target.shape).copy() for part in light)
    allowed = np.ones(known.shape, bool)
    for parts in PARTS:
        local, allowed = places(target * gain + lift, moved, known, parts, allowed)
        if local is None:
            break
        gain, lift, found = local.gain * gain, local.gain * lift + local.lift, True
    return Light(gain, lift) if found else None


def usable(seen: Pixels, moved: Pixels, offset: Plane) -> Plane:
    """1 where both frames are seen and no colour is clipped, ``[h,w]``."""
    known = np.empty(seen.shape[:2], np.float32)
    kernels.inside(seen, moved, offset, DARKEST, BRIGHTEST, known)
    return known


def whole(seen: Pixels, moved: Pixels, known: Plane) -> Light | None:
    """One line for each colour over the whole frame, or an offset where that is as good."""
    here, there = (np.ascontiguousarray(image[known > 0]) for image in (seen, moved))
    lift = np.median(np.ascontiguousarray((there - here).T), axis=1, overwrite_input=True)
    line = robust_line(here, there, lift)
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    errors, left = [], np.empty(here.T.shape, np.float32)
    for gain, rest in ((one, zero), (one, lift), line):
        kernels.misfit(here, there, gain, rest, left)
        errors.append(float(np.median(left, overwrite_input=True)))
    before, flat, bent = errors
    if min(flat, bent) > EXPLAINED * before or before - min(flat, bent) < LEAST:
        return None
    if bent < 0.9 * flat and within(line.gain).all():
        return line
    return Light(np.ones(3, np.float32), lift)


def within(gain: Plane) -> Mask:
    """Where a gain is one that is made up for."""
    inside: Mask = (gain > GAINS[0]) & (gain < GAINS[1])
    return inside


def robust_line(here: Plane, there: Plane, lift: Plane) -> Light:
    """The line for each colour of values ``[n,3]`` that outliers do not move, begun at an
    offset."""
    gain, rest = np.ones(3), lift.astype(np.float64)
    left, found = np.empty(here.T.shape), np.empty((4, 3))
    for _ in range(5):
        kernels.misfit_doubles(here, there, gain, rest, left)
        spread = np.maximum(1.5 * np.median(left, axis=1, overwrite_input=True), 1)
        kernels.moments(here, there, gain, rest, spread, found)
        # Noise is in both, so neither explains the other: the ratio of their deviations.
        gain = np.sqrt(found[3] / found[2])
        rest = found[1] - gain * found[0]
    return Light(gain.astype(np.float32), rest.astype(np.float32))


def places(
    seen: Pixels, moved: Pixels, known: Plane, parts: int, allowed: Mask
) -> tuple[Light | None, Mask]:
    """The light about each place ``[h,w,3]``, 1 and 0 where it is not believed, and where it is
    believed, ``[h,w]``; None where it is nowhere.

    Args:
        seen: the frame, in light of the key frame so far.
        moved: the key frame moved to it.
        known: 1 where both can be compared, ``[h,w]``.
        parts: windows along the shorter side.
        allowed: where light may be believed at all, ``[h,w]``.
    """
    side = 2 * (min(seen.shape[:2]) // (2 * parts)) + 1

    def mean(values: Plane) -> Plane:
        found: Plane = cv2.blur(values, (side, side))
        return found

    share, none = mean(known), np.zeros(known.shape, bool)
    apart, there = np.empty_like(known), np.empty_like(known)
    kernels.differences(seen, moved, known, apart, there)
    before = mean(there)
    if (before <= LEAST * share).all():
        return None, none
    height, width = known.shape
    summed = np.empty((height, width, 12), np.float32)
    found, numbers = np.empty((height, width, 18), np.float32), np.array([STIFF, NOISE], np.float32)
    weight, following = known, np.empty_like(known)
    for _ in range(4):
        total, w = mean(weight) + np.float32(1e-4), weight
        kernels.products(seen, moved, weight, summed)
        kernels.lines(seen, moved, known, total, mean(summed), numbers, found, following)
        weight, following = following, np.empty_like(known)
    left = np.empty((height, width, 5), np.float32)
    kernels.leftovers(found, moved, known, w, apart, left)
    after = mean(left)
    worse = after[..., 1] < WORSE * share
    gained = (after[..., 0] < EXPLAINED_HERE * before) & (before - after[..., 0] > LEAST * share)
    allowed = allowed & worse & gained & (share > 0.3)
    chosen = np.empty((height, width, 7), np.float32)
    kernels.believed(found, after, total, allowed, np.array([ALIKE, *GAINS], np.float32), chosen)
    if not chosen[..., 0].any():
        return None, none
    # Where it ends it fades: at half of its strength there, since half of the window has none.
    faded = mean(chosen)
    trust = faded[..., :1]
    faded[..., 1:] /= np.maximum(trust, np.float32(0.5))
    faded[..., 1:4] += np.float32(1)
    return Light(faded[..., 1:4], faded[..., 4:]), trust[..., 0] > 0.5


@reassociated
def relight(target: Pixels, gains: Pixels, lifts: Pixels, moved: Pixels, lit: Pixels) -> None:
    """The frame in other light. What is clipped could be anything beyond: where the moved key frame
    lies there, it is believed."""
    height, width, _ = target.shape
    for y in range(height):
        for x in range(width):
            for c in range(3):
                shade, there = target[y, x, c], moved[y, x, c]
                value = shade * gains[y, x, c] + lifts[y, x, c]
                if shade <= DARKEST:
                    value = min(value, there)
                elif shade >= BRIGHTEST:
                    value = max(value, there)
                lit[y, x, c] = min(max(value, np.float32(0)), np.float32(255))
