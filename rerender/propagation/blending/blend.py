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

from rerender.compiled import reassociated
from rerender.errors import ConfigError
from rerender.propagation.blending import texture
from rerender.propagation.motion.chain import FrameMotion
from rerender.propagation.motion.pixels import Pixels

Plane = NDArray[np.float32]

LARGEST = np.float32(30)
"""Log odds beyond which a weight is 0 or 1 in float32 anyway."""


class Guess(NamedTuple):
    """A frame as one key frame would have it.

    Attributes:
        image: ``[H,W,3]`` in levels.
        error: ``[H,W]`` how far the source, moved the same way, is from the source frame: mean
            squared levels of a colour channel.
        detail: ``[ceil(H/4),ceil(W/4)]`` how strong the detail of the key frame is where the frame
            was taken from it (see `Blend.detail`); None where nobody asked.
    """

    image: Pixels
    error: Plane
    detail: Plane | None = None


class Bidirectional(NamedTuple):
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
    back: FrameMotion


class Blend(ABC):
    """Turns the two versions of every frame of a segment into one."""

    @abstractmethod
    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
        """One image ``[H,W,3]`` in levels for each pair, in order; values may leave 0..255."""

    def detail(self, style: Pixels) -> Plane | None:
        """What it wants to know of the detail of a key frame ``[H,W,3]`` where a frame was taken
        from it, ``[H,W]``; None if nothing."""
        return None


@dataclass(frozen=True)
class Linear(Blend):
    """A cross-fade in time that does not look at errors."""

    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
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

    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
        for pair in pairs:
            yield mix(pair, share(pair, self.tolerance))


@dataclass(frozen=True)
class TwoBand(Blend):
    """A soft cross-fade that keeps contrast and changes colour evenly over time.

    Details of two versions that disagree cancel out: the fade's high band is amplified to the local
    variance of the version that weighs more, or to the fade of both if that is larger. And where
    the key frames differ in colour as a whole (`casts`), each pixel takes its share of the
    difference by time alone: whichever version a pixel is taken from, colour neither jumps in time
    nor has borders in space.

    Both versions have lost detail on their way from the key frames already. Where the key frames
    disagree in it (`texture.disagreement`), what is wanted is the variance of the key frames
    themselves where the frame was taken from them, and amplification may be twice as far from 1.

    Attributes:
        tolerance: as of `Soft`.
        sigma: of the split into bands, in pixels.
        window: side of the window, in pixels, in which variances are taken.
        gain: largest amplification.
        disagreement: shares of detail on which key frames disagree: up to the first they agree,
            from the second on each has a texture of its own, in between it is taken by degrees.

    Raises:
        ConfigError: the second share is not greater than the first.
    """

    tolerance: Annotated[float, Field(gt=0)] = 12.0
    sigma: Annotated[float, Field(gt=0, le=50)] = 2.0
    window: Annotated[int, Field(ge=3, le=255)] = 17
    gain: Annotated[float, Field(ge=1)] = 1.6
    disagreement: tuple[float, float] = (0.2, 0.4)

    def __post_init__(self) -> None:
        if not 0 <= self.disagreement[0] < self.disagreement[1]:
            problem = f"{list(self.disagreement)} does not rise from 0 or more"
            raise ConfigError("blend.disagreement", problem, "give the smaller share first")

    def run(self, pairs: Iterable[Bidirectional]) -> Iterator[Pixels]:
        yield from map(self.blend, pairs)  # a loop would hold a pair while the next one is made

    def blend(self, pair: Bidirectional) -> Pixels:
        """One frame. What is as large as it is let go as soon as it is used: of large frames it is
        the most that propagation holds."""
        weight = share(pair, self.tolerance)
        sums = casts(pair, self.tolerance)
        left, right = pair.left.image, pair.right.image
        mixed, band = np.empty_like(left), np.empty_like(left)
        power = np.empty_like(left)  # of left, right and mixed
        lows = self.low(left), self.low(right)
        fade(left, lows[0], right, lows[1], weight, mixed, band, power)
        power = cv2.blur(power, (self.window, self.window))
        own = self.own_texture(pair, *lows)
        del lows
        for channel, guess in enumerate((pair.left, pair.right)):
            if own and guess.detail is not None:
                wanted = texture.whole(guess.detail, guess.error) - power[..., channel]
                power[..., channel] += own * np.maximum(wanted, 0)
        amplify(band, weight, power, np.float32(1 + (self.gain - 1) * (1 + own)))
        del power
        # Amplifying by a gain that varies makes low frequencies too, which are not wanted.
        extra = blur(band, odd(np.sqrt(12) * self.sigma))
        height, width = weight.shape
        field = cv2.resize(sums, (width, height))
        finish(mixed, band, extra, field, weight, np.float32(pair.time))
        return mixed

    def own_texture(self, pair: Bidirectional, left_low: Pixels, right_low: Pixels) -> np.float32:
        """0 where both key frames have one texture, 1 where each has its own."""
        if pair.left.detail is None or pair.right.detail is None:
            return np.float32(0)
        left, right, scale = pair.left, pair.right, np.float32(0.25 / self.tolerance**2)
        found = texture.disagreement(
            left.image, left_low, left.error, right.image, right_low, right.error, scale
        )
        first, last = self.disagreement
        return np.float32(np.clip((found - first) / (last - first), 0, 1))

    def detail(self, style: Pixels) -> Plane:
        return texture.strength(style - self.low(style), self.window)

    def low(self, image: Pixels) -> Pixels:
        """A Gaussian blur by two boxes of the same variance."""
        side = odd(np.sqrt(6 * self.sigma**2 + 1))
        return blur(blur(image, side), side)


def odd(length: float) -> int:
    """The odd number nearest to a length."""
    return 2 * round((length - 1) / 2) + 1


def blur(image: Plane, side: int) -> Plane:
    """The mean over a box."""
    blurred: Plane = cv2.blur(image, (side, side))
    return blurred


GRID = 32
"""Rows of the grid on which a cast is taken; its window is as wide."""


def casts(pair: Bidirectional, tolerance: float) -> Pixels:
    """How the right key frame differs in colour from the left, as a smooth field ``[h,w,3]`` of
    few rows, to be enlarged to the frame.

    The mean difference over about the whole frame, of those places that both versions explain.
    """
    height, width, _ = pair.left.image.shape
    rows = min(GRID, height)
    size = (max(round(rows * width / height), 1), rows)
    step = cv2.resize(pair.right.image - pair.left.image, size, interpolation=cv2.INTER_AREA)
    error = cv2.resize(pair.left.error + pair.right.error, size, interpolation=cv2.INTER_AREA)
    # A small weight even for what neither explains: some difference is better than none.
    trust = np.exp(-error / (4 * tolerance**2))[..., None] + np.float32(1e-3)
    sums = np.dstack([step * trust, trust])
    for _ in range(2):
        sums = blur(sums, GRID + 1)
    field: Pixels = sums[..., :3] / sums[..., 3:]
    return field


def mix(pair: Bidirectional, right: Plane) -> Pixels:
    """The weighted mean of both versions, ``right [H,W]`` being the weight of the right one."""
    mixed = np.empty_like(pair.left.image)
    average(pair.left.image, pair.right.image, right, mixed)
    return mixed


def share(pair: Bidirectional, tolerance: float) -> Plane:
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
def amplify(band: Pixels, weight: Plane, power: Pixels, largest: float) -> None:
    """Turn the high band into what must be added to it to reach the wanted variance."""
    height, width, _ = band.shape
    one, two = np.float32(1), np.float32(2)
    for y in range(height):
        for x in range(width):
            late, left, right = weight[y, x], power[y, x, 0], power[y, x, 1]
            # The farther a version was carried, the more contrast it has lost: the one that weighs
            # more is believed in full.
            wanted = max(left * min(one, two - two * late), right * min(one, two * late))
            wanted = max(wanted, left + late * (right - left))
            # One squared level is added to both: where there is nothing to keep, the gain is 1.
            gain = np.sqrt((wanted + one) / (max(power[y, x, 2], np.float32(0)) + one))
            gain = min(max(gain, one), largest) - one
            for c in range(3):
                band[y, x, c] *= gain


@reassociated
def finish(
    mixed: Pixels, band: Pixels, extra: Pixels, field: Pixels, weight: Plane, time: float
) -> None:
    """Add the detail, and the cast by time instead of by weight."""
    height, width, _ = mixed.shape
    for y in range(height):
        for x in range(width):
            late = time - weight[y, x]
            for c in range(3):
                mixed[y, x, c] += band[y, x, c] - extra[y, x, c] + late * field[y, x, c]
