"""How badly key frames explain the frames between them, told from the source alone.

Whatever is painted on a key frame is carried to another frame by the motion of the source. So the
source itself shows where that fails: where neither the key frame before, moved, nor the one after
looks like the frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerender.contracts import FlowEstimator
from rerender.fitting import FittedVideo
from rerender.flow._sample import sample
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import LiveLinks, follow
from rerender.video import Video

SIDE = 128
"""Short side in pixels at which frames are compared."""

UNSEEN = 255.0**2 / 4
"""Squared error of a frame whose shot has no key frame."""

TINY = 1e-9  # squared levels, so that no logarithm is taken of 0

Stretch: TypeAlias = tuple[int | None, int | None, int, int]


def small(video: Video) -> Video:
    """The video at the size at which it is looked at."""
    height, width = video.size
    scale = min(1.0, SIDE / min(height, width))
    size = (max(round(height * scale), 16), max(round(width * scale), 16))
    return video if size == (height, width) else FittedVideo(video, size, size)


def unexplained(
    video: Video, left: int | None, right: int | None, frames: range, flow: FlowEstimator
) -> NDArray[np.float64]:
    """For each of the frames the mean squared error, in squared levels of a channel, of the better
    of its two key frames at each pixel.

    Args:
        video: the source, small (see `small`).
        left: the key frame before the frames; None where there is none.
        right: the key frame after them; None where there is none.
        frames: consecutive frames between the two.
        flow: estimates motion.
    """
    sides = []
    if left is not None:
        sides.append(list(errors_from(video, left, frames, flow)))
    if right is not None:
        sides.append(list(errors_from(video, right, frames[::-1], flow))[::-1])
    means = [float(np.minimum.reduce(pair).mean()) for pair in zip(*sides, strict=True)]
    return np.array(means, np.float64)


def errors_from(
    video: Video, key: int, frames: Sequence[int], flow: FlowEstimator
) -> Iterator[NDArray[np.float32]]:
    """The squared error of the source key frame, moved to each frame; frames lead away from it."""
    source = pixels.levels(video[key])
    links = LiveLinks(video, flow.rough(), seen=False)
    for step in follow(video, key, frames, links, flow):
        error = np.square(sample(source, step.motion.offset) - step.target).mean(-1)
        yield np.asarray(error, np.float32)


@dataclass(frozen=True)
class Suggestion:
    """A further key frame.

    Attributes:
        frame: its number.
        worst: the frame that was explained worst before, root mean squared error in levels.
        gain: by how much the mean squared error of all frames falls, in dB.
        span: the frames between the key frames around it.
    """

    frame: int
    worst: float
    gain: float
    span: range


def suggestions(
    video: Video, keys: Sequence[int], cuts: Sequence[int], flow: FlowEstimator
) -> Iterator[Suggestion]:
    """Further key frames, the one that helps most first, until every frame is one.

    Of all stretches between key frames the one with the largest summed error is divided: at its
    worst frame, where half of its error lies behind, or in the middle, whichever leaves least.

    Args:
        video: the source.
        keys: the key frames there are, increasing.
        cuts: frames that begin a new shot; no key frame is seen across one.
        flow: estimates motion.
    """
    video, found = small(video), sorted(keys)
    errors: dict[Stretch, NDArray[np.float64]] = {}

    def error(stretch: Stretch) -> NDArray[np.float64]:
        if stretch not in errors:
            left, right, start, stop = stretch
            frames = range(start, stop)
            none = left is None and right is None
            errors[stretch] = (
                np.full(len(frames), UNSEEN)
                if none or not frames
                else unexplained(video, left, right, frames, flow)
            )
        return errors[stretch]

    while len(found) < len(video):
        pieces = stretches(found, cuts, len(video))
        total = sum(float(error(piece).sum()) for piece in pieces)
        worst = max(pieces, key=lambda piece: (float(error(piece).sum()), -piece[2]))
        parted = {index: divided(worst, index) for index in candidates(worst, error(worst))}
        left = {
            index: sum(float(error(piece).sum()) for piece in pair)
            for index, pair in parted.items()
        }
        index = min(left, key=lambda each: (left[each], each))
        after = max(total - float(error(worst).sum()) + left[index], TINY)
        gain = 10 * math.log10(max(total, TINY) / after)
        level = math.sqrt(max(float(error(piece).max(initial=0)) for piece in pieces))
        yield Suggestion(index, level, gain, range(worst[2], worst[3]))
        found = sorted([*found, index])


def stretches(keys: Sequence[int], cuts: Sequence[int], length: int) -> list[Stretch]:
    """What lies between key frames and cuts: (key before, key after, first frame, one past the
    last), without the empty ones."""
    found: list[Stretch] = []
    for start, stop in pairwise([0, *cuts, length]):
        own = [key for key in keys if start <= key < stop]
        for left, right in pairwise([None, *own, None]):
            first = start if left is None else left + 1
            last = stop if right is None else right
            if first < last:
                found.append((left, right, first, last))
    return found


def divided(stretch: Stretch, index: int) -> list[Stretch]:
    """A stretch with a key frame in it."""
    left, right, start, stop = stretch
    both = [(left, index, start, index), (index, right, index + 1, stop)]
    return [piece for piece in both if piece[2] < piece[3]]


def candidates(stretch: Stretch, errors: NDArray[np.float64]) -> set[int]:
    """Where a stretch may be divided."""
    _, _, start, stop = stretch
    half = int(np.searchsorted(np.cumsum(errors), errors.sum() / 2))
    inside = {start + int(errors.argmax()), start + min(half, len(errors) - 1)}
    return inside | {(start + stop - 1) // 2}
