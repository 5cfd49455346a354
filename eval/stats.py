"""What a set of scores supports: intervals, and paired tests of rows against one reference row.

The unit is the source video: seeds are averaged first, then prompts that one video was given,
because neither is independent evidence about other videos. Of metrics that are read as ratios
(`RATIOS`) the logarithm is averaged: their centre is the geometric mean, and differences are
relative. Tests are exact, and corrected for all that a table tests.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from eval.score_files import Score

Array = NDArray[np.float64]
Cells = dict[str, list[float]]
"""Clip -> the values of its seeds."""

LEVEL = 0.05
RATIOS = ("warp_error", "lpips", "flicker")  # metrics whose names begin so are compared as ratios
EXACT = 20  # videos up to which every pattern of signs is tried
_DRAWS, _CHUNK = 10_000, 4096  # random patterns beyond, at least, and how many at a time


@dataclass(frozen=True)
class Summary:
    """One method under one metric.

    Attributes:
        method, metric: names.
        mean: over videos, each the mean of its prompts and seeds; geometric for `RATIOS`.
        low, high: 95 % t interval of it, on the logarithm for `RATIOS`; None with one video, and
            where a ratio metric is 0.
        clips: number of clips behind it.
        of: number of clips that any method has.
        rank: mean rank among the methods that have all clips, 1 is best; None for others.
    """

    method: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    clips: int
    of: int
    rank: float | None


@dataclass(frozen=True)
class Comparison:
    """A method and the reference under one metric, on the clips that both have.

    Attributes:
        metric, method, reference: names.
        difference: method - reference over videos; where ``relative``, method / reference - 1.
        low, high: its 95 % t interval; None with one video.
        relative: whether it is a ratio less one, of geometric means.
        p: two-sided sign-flip test over videos; None where the metric is descriptive only.
        p_holm: the same after Holm's correction over all comparisons that are tested.
        clips, of: number of clips that both have, and that any method has.
    """

    metric: str
    method: str
    reference: str
    difference: float
    low: float | None
    high: float | None
    relative: bool
    p: float | None
    p_holm: float | None
    clips: int
    of: int


class Scores:
    """Rows of a score file by metric, method and clip, without undefined ones.

    Args:
        rows: scores of any number of clips, methods and seeds, in any order.

    Attributes:
        cells: metric -> method -> clip -> values of its seeds, in a fixed order.
        directions: metric -> "lower" or "higher", which is better.
    """

    def __init__(self, rows: Iterable[Score]) -> None:
        self.cells: dict[str, dict[str, Cells]] = defaultdict(lambda: defaultdict(dict))
        self.directions: dict[str, str] = {}
        self._videos: dict[str, str] = {}
        for row in sorted(rows, key=_place):
            self.directions[row.metric] = row.direction
            self._videos[row.clip] = row.source
            if row.value is not None:
                self.cells[row.metric][row.method].setdefault(row.clip, []).append(row.value)

    def clips(self, metric: str) -> list[str]:
        """The clips for which any method has a value."""
        return sorted({clip for own in self.cells[metric].values() for clip in own})

    def complete(self, metric: str) -> list[str]:
        """The methods that have a value for all of these clips."""
        wanted = len(self.clips(metric))
        return [method for method, own in self.cells[metric].items() if len(own) == wanted]

    def by_video(self, metric: str, method: str, clips: Iterable[str]) -> Array:
        """A method's values of some clips, ``[videos]``: seeds averaged, then prompts."""
        own, found = self.cells[metric][method], defaultdict(list)
        for clip in sorted(clips):
            found[self._videos[clip]].append(_mean(own[clip]))
        return np.array([_mean(found[video]) for video in sorted(found)])

    def differences(self, metric: str, method: str, other: str) -> tuple[Array, bool, int]:
        """Differences of two methods over the videos that both have, ``[videos]``; whether they are
        of logarithms; and the number of clips. A ratio metric that is 0 somewhere has none."""
        common = self.cells[metric][method].keys() & self.cells[metric][other].keys()
        first, second = (self.by_video(metric, name, common) for name in (method, other))
        logs = is_ratio(metric) and bool((first > 0).all() and (second > 0).all())
        found = np.log(first) - np.log(second) if logs else first - second
        return found, logs, len(common)


def _place(row: Score) -> tuple[str, str, str, int]:
    return row.metric, row.method, row.clip, -1 if row.seed is None else row.seed


def is_ratio(metric: str) -> bool:
    """Whether a metric is compared by ratios."""
    return metric.startswith(RATIOS)


def means(rows: Iterable[Score]) -> dict[str, float]:
    """The mean of every metric over videos, of rows of one method; as in `summarise`."""
    scores = Scores(rows)
    found = {}
    for metric, methods in scores.cells.items():
        ((method, own),) = methods.items()
        found[metric] = _centre(scores.by_video(metric, method, own), is_ratio(metric))
    return found


def summarise(rows: Iterable[Score]) -> list[Summary]:
    """Mean, interval and mean rank of every method under every metric."""
    scores, found = Scores(rows), []
    for metric, methods in scores.cells.items():
        clips = scores.clips(metric)
        whole = {name: methods[name] for name in scores.complete(metric)}
        ranks = mean_ranks(whole, scores.directions[metric])
        for method, own in methods.items():
            mean, low, high = estimate(scores.by_video(metric, method, own), is_ratio(metric))
            counts = len(own), len(clips), ranks.get(method)
            found.append(Summary(method, metric, mean, low, high, *counts))
    return found


def compare(
    rows: Iterable[Score],
    reference: str,
    primary: Sequence[str],
    among: Iterable[str] | None = None,
) -> list[Comparison]:
    """Every method against the reference under every metric; primary metrics are tested.

    Args:
        rows: scores.
        reference: the method that others are compared with.
        primary: metrics that are tested, corrected together by Holm's method; others are
            described by their intervals alone.
        among: methods that take part besides the reference; all of them if None.
    """
    scores, drafts = Scores(rows), []
    chosen = None if among is None else {*among}
    for metric, methods in scores.cells.items():
        for method in methods if reference in methods else ():
            if method != reference and (chosen is None or method in chosen):
                values, logs, clips = scores.differences(metric, method, reference)
                if clips:
                    drafts.append((metric, method, values, logs, clips))
    tested = [index for index, draft in enumerate(drafts) if draft[0] in primary]
    ps = {index: sign_flip(drafts[index][2], len(tested)) for index in tested}
    corrected = dict(zip(ps, holm(list(ps.values())), strict=True))
    found = []
    for index, (metric, method, values, logs, clips) in enumerate(drafts):
        centre, low, high = estimate(values)
        shown = [v if v is None or not logs else math.expm1(v) for v in (centre, low, high)]
        found.append(
            Comparison(
                *(metric, method, reference, shown[0] or 0.0, shown[1], shown[2], logs),
                *(ps.get(index), corrected.get(index), clips, len(scores.clips(metric))),
            )
        )
    return found


def leaders(
    rows: Iterable[Score], metric: str, among: Iterable[str], metrics: int
) -> tuple[str | None, str | None]:
    """The best and the second best method, each only where the data show it.

    A method is shown to be best where the sign-flip test finds it better than every other one at
    0.05 / ((R - 1) P), R methods and P tested metrics: for a wrong claim one of the R - 1 others
    must seem better than the method that is best. The second is held against all but the best.

    Args:
        rows: scores.
        metric: its name.
        among: the methods that compete; those that lack a clip are left out.
        metrics: number of metrics that are tested.
    """
    scores = Scores(rows)
    chosen = {*among}
    names = [name for name in scores.complete(metric) if name in chosen]
    sign = 1 if scores.directions.get(metric) == "lower" else -1
    centres = {n: estimate(scores.by_video(metric, n, scores.cells[metric][n]))[0] for n in names}
    names.sort(key=lambda name: sign * centres[name])
    tests = (len(chosen) - 1) * metrics

    def shown(first: str, others: Sequence[str]) -> bool:
        pairs = [scores.differences(metric, first, other)[0] * sign for other in others]
        return bool(others) and all(
            values.sum() < 0 and sign_flip(values, tests) * tests < LEVEL for values in pairs
        )

    if not names or not shown(names[0], names[1:]):
        return None, None
    return names[0], names[1] if shown(names[1], names[2:]) else None


def needed(tests: int) -> int:
    """The fewest videos with which any of so many tests can be significant after correction."""
    return math.floor(math.log2(2 * max(tests, 1) / LEVEL)) + 1


def estimate(values: Array, ratio: bool = False) -> tuple[float, float | None, float | None]:
    """Mean of independent values and its 95 % t interval, ``m -+ t_{.975,n-1} s / sqrt(n)``.

    Args:
        values: ``[n]``.
        ratio: average logarithms: the geometric mean and its interval; with a value of 0 the mean
            is 0, without an interval.
    """
    mean = _centre(values, ratio)
    if len(values) < 2 or (ratio and (values <= 0).any()):
        return mean, None, None
    scaled = np.log(values) if ratio else values
    half = _quantile(len(scaled)) * float(scaled.std(ddof=1)) / math.sqrt(len(scaled))
    if ratio:
        return mean, mean * math.exp(-half), mean * math.exp(half)
    return mean, mean - half, mean + half


def _centre(values: Array, ratio: bool) -> float:
    """Mean, or geometric mean."""
    if not ratio or (values < 0).any():
        return math.fsum(values) / len(values)
    return math.exp(math.fsum(np.log(values)) / len(values)) if values.all() else 0.0


@cache
def _quantile(count: int) -> float:
    from scipy.special import stdtrit  # scipy.stats has the same number and takes a second to load

    return float(stdtrit(count - 1, 1 - LEVEL / 2))


def sign_flip(differences: Sequence[float] | Array, tests: int = 1) -> float:
    """Two-sided p of "the signs of the differences are random": the share of sign patterns whose
    sum is at least as far from 0. All patterns up to 20 differences, random ones beyond.

    Args:
        differences: one for each video.
        tests: how many tests are corrected together: at least 20 tests / 0.05 random patterns, so
            that the smallest p stays well below what the correction asks for.
    """
    values = np.asarray(differences, float)
    limit = abs(math.fsum(values)) * (1 - 1e-9)
    if len(values) <= EXACT:
        sums = np.zeros(1)
        for value in values[1:]:  # the first sign may stay: both halves are alike
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums + values[:1].sum()) >= limit).mean())
    random, draws = _random("sign-flip"), max(_DRAWS, math.ceil(20 * tests / LEVEL))
    extreme = 0
    for start in range(0, draws, _CHUNK):
        shape = min(_CHUNK, draws - start), len(values)
        signs = random.integers(0, 2, shape) * 2.0 - 1
        extreme += int((np.abs(signs @ values) >= limit).sum())
    return (extreme + 1) / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: family-wise error at most the level over all tests."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    corrected, running = [0.0] * len(ps), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = running
    return corrected


def mean_ranks(methods: Mapping[str, Cells], direction: str) -> dict[str, float]:
    """Mean rank of each method (1 is best, ties share) over the clips that all methods have."""
    common = set.intersection(*(set(clips) for clips in methods.values())) if methods else set()
    if not common:
        return {}
    sign = 1 if direction == "lower" else -1
    ranks = []
    for clip in sorted(common):
        values = np.array([sign * _mean(own[clip]) for own in methods.values()])
        better, alike = values < values[:, None], values == values[:, None]
        ranks.append(better.sum(1) + (alike.sum(1) + 1) / 2)
    return dict(zip(methods, map(float, np.mean(ranks, axis=0)), strict=True))


def _random(role: str) -> np.random.Generator:
    key = hashlib.sha256(role.encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(key, "big"))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
