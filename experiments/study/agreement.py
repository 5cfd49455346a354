"""How far people agree, and how many are needed to decide between two methods."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm
from scipy.stats import t as student

POWER, LEVEL = 0.8, 0.05
_MOST = 5000  # votes beyond which no study goes


@dataclass(frozen=True)
class Agreement:
    """Agreement between people on the same pair of videos.

    Attributes:
        share: of pairs of people that voted alike, 0..1; chance gives 0.5.
        u: Kendall's coefficient ``2 share - 1`` (Kendall & Babington Smith 1940): 1 where all vote
            alike, 0 by chance; None where no two people saw the same pair.
        low, high: its 95 % interval (people left out in turn); None with fewer than three.
        others: share of votes that are those of the majority of the other people, ties half: the
            most that a metric which knows no person can be expected to reach.
        pairs: number of pairs of people behind it.
    """

    share: float | None
    u: float | None
    low: float | None
    high: float | None
    others: float | None
    pairs: int


def agreement(votes: Iterable[tuple[Hashable, Hashable, bool]]) -> Agreement:
    """Agreement of votes ``(person, pair of videos, whether the first one was chosen)``."""
    items: dict[Hashable, dict[Hashable, bool]] = defaultdict(dict)
    for person, item, first in votes:
        items[item][person] = first
    alike, pairs = 0, 0
    own: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0])  # of pairs with this person
    right, seen = 0.0, 0
    for chosen in items.values():
        firsts, n = sum(chosen.values()), len(chosen)
        alike += math.comb(firsts, 2) + math.comb(n - firsts, 2)
        pairs += math.comb(n, 2)
        for person, first in chosen.items():
            same = (firsts if first else n - firsts) - 1
            own[person][0] += same
            own[person][1] += n - 1
            if n > 1:
                right += (np.sign(2 * same - (n - 1)) + 1) / 2
                seen += 1
    if not pairs:
        return Agreement(None, None, None, None, None, 0)
    u = 2 * alike / pairs - 1
    # Without a person, the pairs that he takes part in are gone.
    left = [2 * (alike - a) / (pairs - n) - 1 for a, n in own.values() if n and pairs > n]
    low, high = _jackknifed(u, left)
    return Agreement(alike / pairs, u, low, high, float(right / seen), pairs)


def _jackknifed(value: float, left: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval from the values without one person each."""
    n = len(left)
    if n < 3:
        return None, None
    error = math.sqrt((n - 1) / n * sum((each - sum(left) / n) ** 2 for each in left))
    reach = float(student.ppf(1 - LEVEL / 2, n - 1)) * error
    return max(-1.0, value - reach), min(1.0, value + reach)


def votes_needed(share: float) -> int:
    """Independent votes with which a two-sided sign test at 5 % finds a preference with 80 % power.

    Args:
        share: of votes for the preferred method, above 0.5 and at most 1.

    Returns:
        The smallest number from which on every number suffices; at most 5000.
    """
    n = np.arange(1, _MOST + 1)
    critical = binom.ppf(LEVEL / 2, n, 0.5)  # so many votes, or as few, are significant
    critical = critical - (binom.cdf(critical, n, 0.5) > LEVEL / 2)
    power = binom.cdf(critical, n, share) + binom.sf(n - critical - 1, n, share)
    short = np.flatnonzero(power < POWER)
    return min(int(short[-1]) + 2, _MOST) if len(short) else 1


def people_needed(difference: float, error: float, people: int) -> int | None:
    """People with whom a difference as large as the observed one is found with 80 % power at 5 %.

    ``n = people ((z_0.975 + z_0.8) error / difference)^2``: the variance falls with the number of
    people who vote as many times as these did.

    Args:
        difference: of two strengths.
        error: its standard error.
        people: how many voted.

    Returns:
        The number; None where it cannot be said (no difference, or no error known).
    """
    if not (error > 0 and abs(difference) > 0):
        return None
    reach = float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER))
    return max(2, math.ceil(people * (reach * error / difference) ** 2))


def predicted(
    votes: Sequence[tuple[Hashable, float]], draws: int = 2000, seed: int = 0
) -> Mapping[str, float | int | None]:
    """How well a metric predicts votes, with an interval over clips.

    Args:
        votes: (clip, advantage), the advantage being how much better the metric finds the chosen
            video than the other one; 0 counts half.
        draws: bootstrap draws of clips.
        seed: of the draws.

    Returns:
        ``share`` of votes predicted, ``low``, ``high`` (None with one clip), ``votes``.
    """
    by_clip: dict[Hashable, list[float]] = defaultdict(list)
    for clip, advantage in votes:
        by_clip[clip].append((np.sign(advantage) + 1) / 2)
    if not by_clip:
        return {"share": None, "low": None, "high": None, "votes": 0}
    right = np.array([sum(each) for each in by_clip.values()])
    count = np.array([len(each) for each in by_clip.values()])
    low = high = None
    if len(right) > 1:
        drawn = np.random.default_rng(seed).integers(len(right), size=(draws, len(right)))
        shares = right[drawn].sum(1) / count[drawn].sum(1)
        low, high = map(float, np.percentile(shares, [2.5, 97.5]))
    share = float(right.sum() / count.sum())
    return {"share": share, "low": low, "high": high, "votes": int(count.sum())}
