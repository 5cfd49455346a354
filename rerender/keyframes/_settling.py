"""Key frames that were chosen one by one, moved to where all of them together explain most.

The first of them was chosen without knowing that others would follow; so each is moved between its
neighbours, as long as the error that is left falls (coordinate descent).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from rerender.contracts import FlowEstimator
from rerender.keyframes._disagreement import (
    TINY,
    UNSEEN,
    Stretch,
    Suggestion,
    errors_from,
    small,
    stretches,
    suggestions,
)
from rerender.video import Video

SWEEPS = 2  # over all key frames
REACHES = (8, 4, 2, 1)  # frames by which one is moved at a time
_KEPT = 24  # key frames of whose surroundings the errors are kept


class Explanation:
    """The error that is left between key frames; each way from a key frame is followed once.

    Args:
        video: the source.
        cuts: frames that begin a new shot.
        flow: estimates motion.
    """

    def __init__(self, video: Video, cuts: Sequence[int], flow: FlowEstimator) -> None:
        self._video, self._cuts, self._flow = small(video), cuts, flow
        self._ways: OrderedDict[tuple[int, int], tuple[Iterator[_Map], list[_Map]]] = OrderedDict()

    def left(self, keys: Sequence[int]) -> float:
        """The summed mean squared error of all frames, in squared levels."""
        return sum(float(self._errors(piece).sum()) for piece in self._stretches(keys))

    def worst(self, keys: Sequence[int]) -> float:
        """The root mean squared error of the worst explained frame, in levels."""
        pieces = self._stretches(keys)
        return math.sqrt(max((float(self._errors(p).max(initial=0)) for p in pieces), default=0))

    def around(self, keys: Sequence[int], key: int) -> float:
        """The error between the neighbours of a key frame, as `left` sums it."""
        first, stop = self.room(keys, key)
        pieces = self._stretches([*keys, key])
        return sum(float(self._errors(p).sum()) for p in pieces if first <= p[2] and p[3] <= stop)

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

    def _stretches(self, keys: Sequence[int]) -> list[Stretch]:
        return stretches(sorted({*keys}), self._cuts, len(self._video))

    def _errors(self, stretch: Stretch) -> NDArray[np.float64]:
        left, right, first, stop = stretch
        if left is None and right is None:
            return np.full(stop - first, UNSEEN)
        sides = []
        if left is not None:
            sides.append(self._maps(left, 1, stop - first))
        if right is not None:
            sides.append(self._maps(right, -1, stop - first)[::-1])
        return np.array([np.minimum.reduce(pair).mean() for pair in zip(*sides, strict=True)])

    def _maps(self, key: int, step: int, count: int) -> list[_Map]:
        """The error at each pixel of so many frames after a key frame (``step`` 1) or before."""
        if (key, step) not in self._ways:
            frames = range(key + step, len(self._video) if step > 0 else -1, step)
            self._ways[key, step] = errors_from(self._video, key, frames, self._flow), []
        self._ways.move_to_end((key, step))
        coming, known = self._ways[key, step]
        known += islice(coming, max(count - len(known), 0))
        while len(self._ways) > 2 * _KEPT:
            self._ways.popitem(last=False)
        return known[:count]


_Map = NDArray[np.float32]


def settled(
    given: Sequence[int], chosen: Sequence[int], explanation: Explanation, sweeps: int = SWEEPS
) -> list[int]:
    """The chosen key frames, each moved between its neighbours while less error is left.

    Args:
        given: key frames that stay.
        chosen: the others.
        explanation: says what error is left.
        sweeps: over all of them, at most.
    """
    found = sorted(chosen)
    for _ in range(sweeps):
        before = list(found)
        for place in range(len(found)):
            others = [*given, *found[:place], *found[place + 1 :]]
            found[place] = _moved(found[place], others, explanation)
        if found == before:
            break
    return found


def _moved(key: int, others: Sequence[int], explanation: Explanation) -> int:
    first, stop = explanation.room(others, key)
    least = explanation.around(others, key)
    for reach in REACHES:
        for step in (-reach, reach):
            while first <= key + step < stop:
                error = explanation.around(others, key + step)
                if error >= least * (1 - 1e-6):
                    break
                key, least = key + step, error
    return key


def suggested(
    video: Video, keys: Sequence[int], cuts: Sequence[int], flow: FlowEstimator, count: int
) -> list[Suggestion]:
    """So many further key frames, chosen together, the most useful first.

    Args:
        video: the source.
        keys: the key frames there are.
        cuts: frames that begin a new shot.
        flow: estimates motion.
        count: how many; fewer come where every frame is one.
    """
    explanation, have = Explanation(video, cuts, flow), list(keys)
    first = [each.frame for each in islice(suggestions(video, keys, cuts, flow), count)]
    rest, found = settled(keys, first, explanation), []
    while rest:
        error, worst = explanation.left(have), explanation.worst(have)
        after = {key: explanation.left([*have, key]) for key in rest}
        best = min(rest, key=lambda key: (after[key], key))
        gain = 10 * math.log10(max(error, TINY) / max(after[best], TINY))
        found.append(Suggestion(best, worst, gain, range(*explanation.room(have, best))))
        rest.remove(best)
        have.append(best)
    return found
