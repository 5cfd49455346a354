"""What a set of scores supports: intervals, paired tests with correction, mean ranks.

The unit is the clip: seeds of one clip are averaged first, because they are not independent
evidence about other clips. Methods are compared on the clips that both have, pair by pair.
Percentile intervals of few clips (under about ten) are somewhat too narrow; the tests are exact.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from eval.contracts import Score

Array = NDArray[np.float64]
Cells = dict[str, list[float]]
"""Clip -> the values of its seeds."""

DRAWS = 10_000
LEVEL = 0.05
_EXACT = 14  # clips up to which every pattern of signs is tried


@dataclass(frozen=True)
class Summary:
    """One method under one metric.

    Attributes:
        method, metric: names.
        mean: over clips, each the mean of its seeds.
        low, high: 95 % percentile bootstrap interval over clips and seeds; None with one clip.
        clips: number of clips behind it.
        rank: mean rank among the methods over clips that all of them have, 1 is best; None where
            there are no such clips.
    """

    method: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    clips: int
    rank: float | None


@dataclass(frozen=True)
class Comparison:
    """Two methods under one metric, on the clips that both have.

    Attributes:
        metric, first, second: names.
        difference: mean of first - second over clips.
        low, high: its 95 % paired bootstrap interval; None with one clip or where not wanted.
        p: two-sided sign-flip test on the clips' differences.
        p_holm: the same after Holm's correction over all comparisons made together.
        clips: number of clips.
    """

    metric: str
    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    clips: int


def cells(rows: Iterable[Score]) -> dict[str, dict[str, Cells]]:
    """metric -> method -> clip -> values of its seeds, in a fixed order, without undefined ones."""
    table: dict[str, dict[str, Cells]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in sorted(rows, key=_place):
        if row.value is not None:
            table[row.metric][row.method][row.clip].append(row.value)
    return table


def _place(row: Score) -> tuple[str, str, str, int]:
    return row.metric, row.method, row.clip, -1 if row.seed is None else row.seed


def summarise(rows: Sequence[Score]) -> list[Summary]:
    """Mean, interval and mean rank of every method under every metric.

    Args:
        rows: scores of any number of clips, methods and seeds.
    """
    directions = {row.metric: row.direction for row in rows}
    found = []
    for metric, methods in cells(rows).items():
        ranks = mean_ranks(methods, directions[metric])
        for method, clips in methods.items():
            low, high = interval(list(clips.values()), f"{metric}/{method}")
            mean = math.fsum(map(_mean, clips.values())) / len(clips)
            found.append(Summary(method, metric, mean, low, high, len(clips), ranks.get(method)))
    return found


def compare(
    rows: Sequence[Score], among: Iterable[str] | None = None, intervals: bool = True
) -> list[Comparison]:
    """Every pair of methods under every metric, corrected together.

    Args:
        rows: scores.
        among: methods that take part; all of them if None.
        intervals: whether intervals of the differences are wanted, which take most of the time.
    """
    chosen = None if among is None else set(among)
    drafts = []
    for metric, methods in cells(rows).items():
        names = [name for name in methods if chosen is None or name in chosen]
        for first, second in combinations(names, 2):
            common = [clip for clip in methods[first] if clip in methods[second]]
            if common:
                pairs = [(methods[first][clip], methods[second][clip]) for clip in common]
                drafts.append((metric, first, second, pairs))
    tests = [sign_flip([_mean(a) - _mean(b) for a, b in pairs]) for *_, pairs in drafts]
    return [
        _comparison(draft, p, p_holm, intervals)
        for draft, p, p_holm in zip(drafts, tests, holm(tests), strict=True)
    ]


def best(
    metric: str, direction: str, summaries: Sequence[Summary], comparisons: Sequence[Comparison]
) -> str | None:
    """The method that the data show to be better than every other one, or None.

    It leads in the mean, and each of its comparisons is significant after correction.
    """
    named = [s for s in summaries if s.metric == metric]
    against = [c for c in comparisons if c.metric == metric]
    names = {name for c in against for name in (c.first, c.second)}
    named = [s for s in named if s.method in names]
    if len(named) < 2:
        return None
    sign = 1 if direction == "lower" else -1
    leader = min(named, key=lambda s: sign * s.mean).method
    mine = [c for c in against if leader in (c.first, c.second)]
    won = [c for c in mine if sign * (c.difference if c.first == leader else -c.difference) < 0]
    supported = len(won) == len(names) - 1 and all(c.p_holm < LEVEL for c in won)
    return leader if supported else None


def interval(groups: Sequence[Sequence[float]], role: str) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of the mean over clips; clips are drawn, then seeds within each.

    Args:
        groups: the values of each clip's seeds.
        role: keys the random draws, so that the order of other work does not matter.
    """
    if len(groups) < 2:
        return None, None
    random = _random(role)
    drawn = np.stack([_draw_seeds(np.asarray(g, float), random) for g in groups], 1)
    return _percentiles(drawn, random)


def paired_interval(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], role: str
) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of a mean difference; both methods see the same drawn clips."""
    if len(pairs) < 2:
        return None, None
    random = _random(role)
    drawn = [
        _draw_seeds(np.asarray(a, float), random) - _draw_seeds(np.asarray(b, float), random)
        if len(a) != len(b)
        else _draw_seeds(np.asarray(a, float) - np.asarray(b, float), random)
        for a, b in pairs
    ]
    return _percentiles(np.stack(drawn, 1), random)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of "first and second are exchangeable": the share of sign patterns whose mean is
    at least as far from 0. All patterns up to 14 clips, 10,000 random ones beyond."""
    values = np.asarray(differences, float)
    observed = abs(values.sum())
    if len(values) <= _EXACT:
        signs = _patterns(len(values))
        return float((np.abs(signs @ values) >= observed * (1 - 1e-12)).mean())
    signs = _random("sign-flip").choice((1.0, -1.0), (DRAWS, len(values)))
    extreme = (np.abs(signs @ values) >= observed * (1 - 1e-12)).sum()
    return float((extreme + 1) / (DRAWS + 1))


@cache
def _patterns(clips: int) -> Array:
    """All patterns of signs, ``[2^clips, clips]``."""
    return np.array(list(product((1.0, -1.0), repeat=clips)))


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
    values = [[sign * _mean(methods[m][clip]) for m in methods] for clip in sorted(common)]
    ranks = np.mean([rankdata(row) for row in values], axis=0)
    return dict(zip(methods, map(float, ranks), strict=True))


def _comparison(
    draft: tuple[str, str, str, list[tuple[list[float], list[float]]]],
    p: float,
    p_holm: float,
    intervals: bool,
) -> Comparison:
    metric, first, second, pairs = draft
    role = f"{metric}/{first}/{second}"
    low, high = paired_interval(pairs, role) if intervals else (None, None)
    difference = math.fsum(_mean(a) - _mean(b) for a, b in pairs) / len(pairs)
    return Comparison(metric, first, second, difference, low, high, p, p_holm, len(pairs))


def _draw_seeds(values: Array, random: np.random.Generator) -> Array:
    """``DRAWS`` means of a clip's seeds drawn with replacement."""
    drawn = random.integers(len(values), size=(DRAWS, len(values)))
    return np.asarray(values[drawn].mean(1))


def _percentiles(drawn: Array, random: np.random.Generator) -> tuple[float, float]:
    """Interval of the mean over clips drawn with replacement; ``drawn`` is [draws, clips]."""
    clips = random.integers(drawn.shape[1], size=drawn.shape)
    means = np.take_along_axis(drawn, clips, 1).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _random(role: str) -> np.random.Generator:
    key = hashlib.sha256(role.encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(key, "big"))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
