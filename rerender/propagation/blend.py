"""How the two propagated versions of a frame become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rerender.propagation.chain import Motion
from rerender.propagation.compiled import reassociated
from rerender.propagation.pixels import Pixels

Plane = NDArray[np.float32]

LARGEST = np.float32(30)
"""Log odds beyond which a weight is 0 or 1 in float32 anyway."""


class Guess(NamedTuple):
    """A frame as one key frame would have it.

    Attributes:
        image: ``[H,W,3]`` in levels.
        error: ``[H,W]`` how far the source, moved the same way, is from the source frame: mean
            squared levels of a colour channel.
    """

    image: Pixels
    error: Plane


class Pair(NamedTuple):
    """A frame as its two key frames would have it.

    Attributes:
        left: by the key frame before it.
        right: by the key frame after it.
        time: its place between the two, 0 at the left and 1 at the right.
        back: its motion to the frame before it.
    """

    left: Guess
    right: Guess
    time: float
    back: Motion


class Blend(ABC):
    """Turns the two versions of every frame of a segment into one."""

    @abstractmethod
    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        """One image ``[H,W,3]`` in levels for each pair, in order; values may leave 0..255."""


@dataclass(frozen=True)
class Linear(Blend):
    """A cross-fade in time that does not look at errors."""

    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        for pair in pairs:
            yield mix(pair, np.full(pair.left.error.shape, pair.time, np.float32))


@dataclass(frozen=True)
class Soft(Blend):
    """A cross-fade in time that leans to the version with the smaller error.

    The odds of the right version are ``t / (1 - t) * exp((e_left - e_right) / (4 s^2))``.

    Attributes:
        tolerance: s, the error in levels that is still noise.
    """

    tolerance: Annotated[float, Field(gt=0)] = 12.0

    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        for pair in pairs:
            yield mix(pair, share(pair, self.tolerance))


@dataclass(frozen=True)
class TwoBand(Blend):
    """A soft cross-fade that keeps contrast: details of two versions that disagree cancel out.

    The fade's high band is amplified to the local variance that the fade of both variances has.

    Attributes:
        tolerance: as of `Soft`.
        sigma: of the split into bands, in pixels.
        window: side of the window, in pixels, in which variances are taken.
        gain: largest amplification.
    """

    tolerance: Annotated[float, Field(gt=0)] = 12.0
    sigma: Annotated[float, Field(gt=0, le=50)] = 3.0
    window: Annotated[int, Field(ge=3, le=255)] = 17
    gain: Annotated[float, Field(ge=1)] = 1.6

    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        for pair in pairs:
            yield self.blend(pair)

    def blend(self, pair: Pair) -> Pixels:
        """One frame."""
        weight = share(pair, self.tolerance)
        left, right = pair.left.image, pair.right.image
        mixed, band = np.empty_like(left), np.empty_like(left)
        power = np.empty_like(left)  # of left, right and mixed
        fade(left, self.low(left), right, self.low(right), weight, mixed, band, power)
        power = cv2.blur(power, (self.window, self.window))
        amplify(mixed, band, weight, power, np.float32(self.gain))
        return mixed

    def low(self, image: Pixels) -> Pixels:
        """A Gaussian blur by two boxes of the same variance."""
        side = 2 * round((np.sqrt(6 * self.sigma**2 + 1) - 1) / 2) + 1
        blurred: Pixels = cv2.blur(cv2.blur(image, (side, side)), (side, side))
        return blurred


def mix(pair: Pair, right: Plane) -> Pixels:
    """The weighted mean of both versions, ``right [H,W]`` being the weight of the right one."""
    mixed = np.empty_like(pair.left.image)
    average(pair.left.image, pair.right.image, right, mixed)
    return mixed


def share(pair: Pair, tolerance: float) -> Plane:
    """The weight ``[H,W]`` of the right version under soft error weighting."""
    weight = np.empty_like(pair.left.error)
    odds = np.float32(log(pair.time / (1 - pair.time)))
    scale = np.float32(0.25 / tolerance**2)
    logistic(pair.left.error, pair.right.error, scale, odds, weight)
    return weight


@reassociated
def logistic(left: Plane, right: Plane, scale: float, prior: float, weight: Plane) -> None:
    """The weight of the right version: the logistic function of its log odds."""
    height, width = weight.shape
    for y in range(height):
        for x in range(width):
            odds = (left[y, x] - right[y, x]) * scale + prior
            odds = min(max(odds, -LARGEST), LARGEST)
            weight[y, x] = np.float32(1) / (np.float32(1) + np.exp(-odds))


@reassociated
def average(left: Pixels, right: Pixels, weight: Plane, mixed: Pixels) -> None:
    """``left + weight (right - left)``."""
    height, width, channels = left.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                mixed[y, x, c] = left[y, x, c] + weight[y, x] * (right[y, x, c] - left[y, x, c])


@reassociated
def fade(
    left: Pixels,
    left_low: Pixels,
    right: Pixels,
    right_low: Pixels,
    weight: Plane,
    mixed: Pixels,
    band: Pixels,
    power: Pixels,
) -> None:
    """The weighted mean, its high band, and the squares of the high bands of left, right, mean."""
    height, width, _ = left.shape
    for y in range(height):
        for x in range(width):
            share = weight[y, x]
            power_a = power_b = power_m = np.float32(0)
            for c in range(3):
                a, b = left[y, x, c] - left_low[y, x, c], right[y, x, c] - right_low[y, x, c]
                m = a + share * (b - a)
                power_a += a * a
                power_b += b * b
                power_m += m * m
                band[y, x, c] = m
                mixed[y, x, c] = left[y, x, c] + share * (right[y, x, c] - left[y, x, c])
            power[y, x, 0], power[y, x, 1], power[y, x, 2] = power_a, power_b, power_m


@reassociated
def amplify(mixed: Pixels, band: Pixels, weight: Plane, power: Pixels, largest: float) -> None:
    """Raise the high band of ``mixed`` to the faded variance."""
    height, width, _ = mixed.shape
    one = np.float32(1)
    for y in range(height):
        for x in range(width):
            wanted = power[y, x, 0] + weight[y, x] * (power[y, x, 1] - power[y, x, 0])
            # One squared level is added to both: where there is nothing to keep, the gain is 1.
            gain = np.sqrt((wanted + one) / (max(power[y, x, 2], np.float32(0)) + one))
            gain = min(max(gain, one), largest) - one
            for c in range(3):
                mixed[y, x, c] += gain * band[y, x, c]
