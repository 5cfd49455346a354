"""The loops of `exposure`, in the order of additions that NumPy has: the same bits, without its
arrays on the way, which take longer than the sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerender.compiled import compiled

Plane = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


@compiled
def inside(
    seen: Plane, moved: Plane, offset: Plane, dark: np.float32, bright: np.float32, known: Plane
) -> None:
    """``known [h,w]`` is 1 where ``offset`` stays in the image and no colour of either image
    ``[h,w,3]`` is clipped, else 0."""
    height, width = known.shape
    for y in range(height):
        for x in range(width):
            across = np.float64(x) + np.float64(offset[y, x, 0])
            down = np.float64(y) + np.float64(offset[y, x, 1])
            good = across >= 0 and down >= 0 and across <= width - 1 and down <= height - 1
            for c in range(3):
                good &= seen[y, x, c] > dark and seen[y, x, c] < bright
                good &= moved[y, x, c] > dark and moved[y, x, c] < bright
            known[y, x] = np.float32(1) if good else np.float32(0)


@compiled
def misfit(here: Plane, there: Plane, gain: Plane, rest: Plane, out: Plane) -> None:
    """``out [3,n]``: what lines for each colour leave of values ``[n,3]``, without sign."""
    for i in range(here.shape[0]):
        for c in range(3):
            out[c, i] = abs(there[i, c] - here[i, c] * gain[c] - rest[c])


@compiled
def misfit_doubles(here: Plane, there: Plane, gain: Doubles, rest: Doubles, out: Doubles) -> None:
    """`misfit` in double precision."""
    for i in range(here.shape[0]):
        for c in range(3):
            left = np.float64(there[i, c]) - np.float64(here[i, c]) * gain[c] - rest[c]
            out[c, i] = abs(left)


@compiled
def moments(
    here: Plane, there: Plane, gain: Doubles, rest: Doubles, spread: Doubles, out: Doubles
) -> None:
    """``out [4,3]``: weighted means and variances plus 1 of values ``[n,3]``, those of ``here``
    first; a value weighs ``1 / (1 + (left / spread)^2)``."""
    sums = np.zeros((5, 3))
    for i in range(here.shape[0]):
        for c in range(3):
            a, b = np.float64(here[i, c]), np.float64(there[i, c])
            scaled = (b - a * gain[c] - rest[c]) / spread[c]
            weight = 1 / (1 + scaled * scaled)
            sums[0, c] += weight
            sums[1, c] += weight * a
            sums[2, c] += weight * b
    for c in range(3):
        out[0, c], out[1, c] = sums[1, c] / sums[0, c], sums[2, c] / sums[0, c]
    for i in range(here.shape[0]):
        for c in range(3):
            a, b = np.float64(here[i, c]), np.float64(there[i, c])
            scaled = (b - a * gain[c] - rest[c]) / spread[c]
            weight = 1 / (1 + scaled * scaled)
            first, second = a - out[0, c], b - out[1, c]
            sums[3, c] += weight * (first * first)
            sums[4, c] += weight * (second * second)
    for c in range(3):
        out[2, c], out[3, c] = sums[3, c] / sums[0, c] + 1, sums[4, c] / sums[0, c] + 1


@compiled
def products(seen: Plane, moved: Plane, weight: Plane, out: Plane) -> None:
    """``out [h,w,12]``: weighted first and second moments of two images ``[h,w,3]``."""
    height, width = weight.shape
    for y in range(height):
        for x in range(width):
            for c in range(3):
                first, second = weight[y, x] * seen[y, x, c], weight[y, x] * moved[y, x, c]
                out[y, x, c], out[y, x, 3 + c] = first, second
                out[y, x, 6 + c] = first * seen[y, x, c]
                out[y, x, 9 + c] = first * moved[y, x, c]


@compiled
def lines(
    seen: Plane,
    moved: Plane,
    known: Plane,
    total: Plane,
    means: Plane,
    numbers: Plane,
    found: Plane,
    weight: Plane,
) -> None:
    """The line about each place by the means of `products`, and how much each pixel weighs next.

    Args:
        seen, moved: ``[h,w,3]``.
        known: ``[h,w]``.
        total: the mean of weights ``[h,w]``.
        means: of `products`, ``[h,w,12]``.
        numbers: contrast of which nothing is believed, and difference that is noise.
        found: is given gain, lift, variance of ``seen``, covariance, mean of ``moved`` and what is
            left, ``[h,w,18]``.
        weight: is given the next weights ``[h,w]``.
    """
    stiff, noise = numbers[0], numbers[1]
    height, width = known.shape
    for y in range(height):
        for x in range(width):
            squares = np.float32(0)
            for c in range(3):
                a, b = means[y, x, c] / total[y, x], means[y, x, 3 + c] / total[y, x]
                spread = max(means[y, x, 6 + c] / total[y, x] - a * a, np.float32(0))
                common = means[y, x, 9 + c] / total[y, x] - a * b
                gain = (common + stiff) / (spread + stiff)
                lift = b - gain * a
                left = moved[y, x, c] - seen[y, x, c] * gain - lift
                share = left / noise
                squares += share * share
                found[y, x, c], found[y, x, 3 + c] = gain, lift
                found[y, x, 6 + c], found[y, x, 9 + c] = spread, common
                found[y, x, 12 + c], found[y, x, 15 + c] = b, left
            weight[y, x] = known[y, x] / (np.float32(1) + squares / np.float32(3))


@compiled
def differences(seen: Plane, moved: Plane, known: Plane, apart: Plane, there: Plane) -> None:
    """How far apart two images ``[h,w,3]`` are: ``apart [h,w]``, the mean over colours without
    sign, and ``there``, the same but 0 where they are not ``known``."""
    height, width = known.shape
    for y in range(height):
        for x in range(width):
            total = np.float32(0)
            for c in range(3):
                total += abs(moved[y, x, c] - seen[y, x, c])
            apart[y, x] = total / np.float32(3)
            there[y, x] = apart[y, x] * known[y, x]


@compiled
def leftovers(
    found: Plane, moved: Plane, known: Plane, weight: Plane, apart: Plane, out: Plane
) -> None:
    """``out [h,w,5]``: how far apart two images still are after the lines ``found``, where that is
    ``known``; 1 where it is more than two levels worse than it was, ``apart``; and the weighted
    squares of ``moved``."""
    height, width = known.shape
    for y in range(height):
        for x in range(width):
            total = np.float32(0)
            for c in range(3):
                total += abs(found[y, x, 15 + c])
                out[y, x, 2 + c] = weight[y, x] * moved[y, x, c] * moved[y, x, c]
            rest = total / np.float32(3)
            out[y, x, 0] = rest * known[y, x]
            out[y, x, 1] = known[y, x] if rest > apart[y, x] + np.float32(2) else np.float32(0)


@compiled
def believed(
    found: Plane, after: Plane, total: Plane, allowed: Mask, bounds: Plane, out: Plane
) -> None:
    """Where the lines ``found`` are of light: where that is ``allowed``, both images have the same
    structure, and the gains are within bounds.

    Args:
        found: of `lines`, ``[h,w,18]``.
        after: the means of `leftovers`, ``[h,w,5]``.
        total: the mean of weights ``[h,w]``.
        allowed: ``[h,w]``.
        bounds: least correlation, smallest and largest gain.
        out: is given 1, gain - 1 and lift where a line is believed, else zeros, ``[h,w,7]``.
    """
    alike, smallest, largest = bounds
    height, width = total.shape
    for y in range(height):
        for x in range(width):
            good = allowed[y, x]
            common = spread = other = np.float32(0)
            for c in range(3):
                b = found[y, x, 12 + c]
                spread += found[y, x, 6 + c]
                common += found[y, x, 9 + c]
                other += max(after[y, x, 2 + c] / total[y, x] - b * b, np.float32(0))
                good &= found[y, x, c] > smallest and found[y, x, c] < largest
            good &= common > alike * np.sqrt(max(spread * other, np.float32(1e-6)))
            out[y, x, 0] = np.float32(1) if good else np.float32(0)
            for c in range(3):
                out[y, x, 1 + c] = found[y, x, c] - np.float32(1) if good else np.float32(0)
                out[y, x, 4 + c] = found[y, x, 3 + c] if good else np.float32(0)
