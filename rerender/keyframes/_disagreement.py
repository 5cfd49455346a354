"""How badly key frames explain the frames between them, told from the source alone.

Whatever is painted on a key frame is carried to another frame by the motion of the source. So the
source itself shows where that fails: its key frames are carried to a frame from both sides, mixed
as softly as propagation does, and compared with the frame, which is known.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerender.contracts import FlowEstimator
from rerender.fitting import FittedVideo
from rerender.flow._sample import sample
from rerender.propagation.blending.blend import Bidirectional, Guess, Soft
from rerender.propagation.blending.sides import StoredDirection
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import FrameMotion, LiveLinks, chain
from rerender.propagation.patches.merge import error
from rerender.video import Video

SIDE = 128
"""Short side in pixels at which frames are compared."""

UNSEEN = 255.0**2 / 4
"""Squared error of a frame whose shot has no key frame."""

SOFT = Soft()
"""How the two sides are mixed, as the fast mode of propagation does."""

NOWHERE = FrameMotion(np.zeros((0, 0, 2), np.float32))
"""Motion to the frame before, which that mix does not ask for."""

TINY = 1e-9  # squared levels, so that no logarithm is taken of 0

_KEPT = 24  # key frames of whose surroundings the errors are kept
_LINKS = 512  # flows between neighbours that are kept

Stretch: TypeAlias = tuple[int | None, int | None, int, int]


def small(video: Video) -> Video:
    """The video at the size at which it is looked at."""
    height, width = video.size
    scale = min(1.0, SIDE / min(height, width))
    size = (max(round(height * scale), 16), max(round(width * scale), 16))
    return video if size == (height, width) else FittedVideo(video, size, size)


class Explanation:
    """The error that is left between key frames; each way from a key frame is followed once.

    Args:
        video: the source.
        cuts: frames that begin a new shot; no key frame is seen across one.
        flow: estimates motion; of it the cheaper kind is taken.
    """

    def __init__(self, video: Video, cuts: Sequence[int], flow: FlowEstimator) -> None:
        self._video, self._cuts, self._flow = small(video), cuts, flow.rough()
        self._link = lru_cache(_LINKS)(LiveLinks(self._video, self._flow, seen=False).step)
        self._ways: OrderedDict[
            tuple[int, int], tuple[Iterator[StoredDirection], list[StoredDirection]]
        ] = OrderedDict()
        self._errors: dict[Stretch, NDArray[np.float64]] = {}

    def left(self, keys: Sequence[int]) -> float:
        """The summed mean squared error of all frames, in squared levels."""
        return sum(float(self.errors(piece).sum()) for piece in self.stretches(keys))

    def worst(self, keys: Sequence[int]) -> float:
        """The root mean squared error of the worst explained frame, in levels."""
        pieces = self.stretches(keys)
        return math.sqrt(max((float(self.errors(p).max(initial=0)) for p in pieces), default=0))

    def around(self, keys: Sequence[int], key: int) -> float:
        """The error between the neighbours of a key frame, as `left` sums it."""
        first, stop = self.room(keys, key)
        pieces = self.stretches([*keys, key])
        return sum(float(self.errors(p).sum()) for p in pieces if first <= p[2] and p[3] <= stop)

    def room(self, keys: Sequence[int], key: int) -> tuple[int, int]:
        """Where a key frame may lie: the first frame between its neighbours, one past the last."""
        others = [each for each in sorted(keys) if each != key]
        at, cut = bisect_left(others, key), bisect_right(self._cuts, key)
        first = max(others[at - 1] + 1 if at else 0, self._cuts[cut - 1] if cut else 0)
        ends = (
            others[at] if at < len(others) else len(self._video),
            self._cuts[cut] if cut < len(self._cuts) else len(self._video),
        )
        return first, min(ends)

    def stretches(self, keys: Sequence[int]) -> list[Stretch]:
        """What lies between key frames and cuts: (key before, key after, first frame, one past the
        last), without the empty ones."""
        found: list[Stretch] = []
        for start, stop in pairwise([0, *self._cuts, len(self._video)]):
            own = sorted({key for key in keys if start <= key < stop})
            for left, right in pairwise([None, *own, None]):
                first = start if left is None else left + 1
                last = stop if right is None else right
                if first < last:
                    found.append((left, right, first, last))
        return found

    def errors(self, stretch: Stretch) -> NDArray[np.float64]:
        """For each of its frames the mean squared error, in squared levels of a channel, of the
        source propagated to it from its one or two key frames."""
        if stretch not in self._errors:
            self._errors[stretch] = self._mixed(*stretch)
        return self._errors[stretch]

    def _mixed(
        self, left: int | None, right: int | None, first: int, stop: int
    ) -> NDArray[np.float64]:
        if left is None and right is None:
            return np.full(stop - first, UNSEEN)
        sides = []
        if left is not None:
            sides.append(self._way(left, 1, stop - first))
        if right is not None:
            sides.append(self._way(right, -1, stop - first)[::-1])
        means = []
        for index, stored in enumerate(zip(*sides, strict=True), first):
            guesses = [side.guess() for side in stored]
            apart = guesses[0].image
            if left is not None and right is not None:
                time = (index - left) / (right - left)
                (apart,) = SOFT.run([Bidirectional(guesses[0], guesses[1], time, NOWHERE)])
            means.append(float(np.square(apart).mean()))
        return np.array(means, np.float64)

    def _way(self, key: int, step: int, count: int) -> list[StoredDirection]:
        """What so many frames after a key frame (``step`` 1), or before it, are off by."""
        if (key, step) not in self._ways:
            frames = range(key + step, len(self._video) if step > 0 else -1, step)
            self._ways[key, step] = self._followed(key, frames), []
        self._ways.move_to_end((key, step))
        coming, known = self._ways[key, step]
        known += islice(coming, max(count - len(known), 0))
        while len(self._ways) > 2 * _KEPT:
            self._ways.popitem(last=False)
        return known[:count]

    def _followed(self, key: int, frames: Sequence[int]) -> Iterator[StoredDirection]:
        """How far the source key frame, moved to each frame, is from it: signed, in levels, with
        its error as of a `Guess`; frames lead away from the key frame."""
        into, found = self._video.frame(key), None
        source = pixels.levels(into.image)
        for index in frames:
            step = self._link(index, index - 1 if index > key else index + 1)
            chained = step if found is None else chain(step, found)
            frame = self._video.frame(index)
            direct = self._flow.offset(frame, into, pixels.offsets(chained.offset))
            found = FrameMotion(pixels.vectors(direct))
            moved, target = sample(source, found.offset), pixels.levels(frame.image)
            yield StoredDirection.of(Guess(moved - target, error(moved, target)))


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


def suggestions(explanation: Explanation, keys: Sequence[int]) -> Iterator[Suggestion]:
    """Further key frames, the one that helps most first, until every frame is one.

    Of all stretches between key frames the one with the largest summed error is divided: at its
    worst frame, where half of its error lies behind, or in the middle, whichever leaves least.

    Args:
        explanation: says what error is left.
        keys: the key frames there are.
    """
    found, errors = sorted(keys), explanation.errors
    while pieces := explanation.stretches(found):
        total = sum(float(errors(piece).sum()) for piece in pieces)
        worst = max(pieces, key=lambda piece: (float(errors(piece).sum()), -piece[2]))
        parted = {index: divided(worst, index) for index in candidates(worst, errors(worst))}
        left = {
            index: sum(float(errors(piece).sum()) for piece in pair)
            for index, pair in parted.items()
        }
        index = min(left, key=lambda each: (left[each], each))
        after = max(total - float(errors(worst).sum()) + left[index], TINY)
        gain = 10 * math.log10(max(total, TINY) / after)
        level = math.sqrt(max(float(errors(piece).max(initial=0)) for piece in pieces))
        yield Suggestion(index, level, gain, range(worst[2], worst[3]))
        found = sorted([*found, index])


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
