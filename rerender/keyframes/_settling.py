"""Key frames moved to where all of them together explain most.

Key frames that were chosen one by one were chosen without knowing that others would follow; evenly
spaced ones know nothing of the video. So each is moved between its neighbours, as long as the error
that is left falls (coordinate descent).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np

from rerender.contracts import FlowEstimator
from rerender.keyframes._disagreement import TINY, Explanation, Suggestion, suggestions
from rerender.video import Video

SWEEPS = 2  # over all key frames
REACHES = (8, 4, 2, 1)  # frames by which one is moved at a time

MARGIN = 0.3
"""Share of the error that a change has to save: less may be chance, since what the source shows is
not quite what will be painted."""

INSET = 1 / 3
"""From an end of a video to its outermost key frame, as a share of the distance between two: a
frame between two is half as far from the nearer one, and has both."""


def spaced(shots: Sequence[range], count: int) -> list[int]:
    """So many evenly spaced frames: both frames of every cut, and at the ends of the video a little
    inside (`INSET`). Each further one goes to the shot whose frames are furthest apart.

    Args:
        shots: frames of each shot.
        count: at least one for each end of a shot, at most one for each frame.
    """
    counts = [min(2, len(shot)) for shot in shots]
    gaps = [len(shot) / have for shot, have in zip(shots, counts, strict=True)]
    while sum(counts) < count:
        widest = gaps.index(max(gaps))
        counts[widest] += 1
        full = counts[widest] == len(shots[widest])
        gaps[widest] = 0.0 if full else len(shots[widest]) / counts[widest]
    found: list[int] = []
    for number, (shot, have) in enumerate(zip(shots, counts, strict=True)):
        before, after = INSET * (number == 0), INSET * (number == len(shots) - 1)
        gap = (len(shot) - 1) / (have - 1 + before + after) if have > 1 else 0.0
        places = np.linspace(shot[0] + before * gap, shot[-1] - after * gap, have)
        found += [int(place) for place in places.round()]
    return found


def settled(
    given: Sequence[int], chosen: Sequence[int], explanation: Explanation, sweeps: int = SWEEPS
) -> list[int]:
    """The chosen key frames, each moved between its neighbours while less error is left; after
    that the one that is missed least is taken to where it helps most, while less is left.

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
        found = _exchanged(given, found, explanation)
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
                if error >= least * (1 - MARGIN):
                    break
                key, least = key + step, error
    return key


def _exchanged(given: Sequence[int], found: list[int], explanation: Explanation) -> list[int]:
    def without(key: int) -> list[int]:
        return [*given, *(each for each in found if each != key)]

    least = explanation.left([*given, *found])
    for _ in range(len(found)):
        spare = min(found, key=lambda key: (explanation.left(without(key)), key))
        rest = without(spare)
        if not rest or (further := next(suggestions(explanation, rest), None)) is None:
            break
        error = explanation.left([*rest, further.frame])
        if error >= least * (1 - MARGIN):
            break
        least = error
        found = sorted([*(each for each in found if each != spare), further.frame])
    return found


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
    first = [each.frame for each in islice(suggestions(explanation, keys), count)]
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
