"""Bradley-Terry strengths of methods from pairwise votes, with intervals.

``P(i is preferred to j) = 1 / (1 + exp(-(s_i - s_j)))`` (Bradley & Terry 1952), strengths ``s`` in
log-odds that sum to 0. They are estimated with Firth's penalty (Jeffreys' prior, Firth 1993), which
removes the first-order bias and stays finite where one method wins every vote.

Votes of one person are not independent of each other. Intervals therefore come from leaving out one
cluster of votes at a time (one person, or one clip) and Student's t with one degree of freedom less
than there are clusters (the jackknife variance CR3; Bell & McCaffrey 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

_STEPS, _TOLERANCE = 100, 1e-10
_LONGEST = 2.0  # a Newton step in log-odds, so that one vote against none cannot overshoot


@dataclass(frozen=True)
class Strengths:
    """Estimated strengths of ``M`` methods.

    Attributes:
        values: ``[M]`` log-odds, sum 0; higher is preferred more often.
        covariance: ``[M,M]``, rows sum to 0; NaN where fewer than two clusters voted.
        clusters: number of independent clusters behind the covariance.
    """

    values: Array
    covariance: Array
    clusters: int

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Lower and upper ends ``[M]`` of the strengths' intervals."""
        reach = self._quantile(level) * np.sqrt(np.diag(self.covariance))
        return self.values - reach, self.values + reach

    def difference(self, i: int, j: int) -> tuple[float, float]:
        """``s_i - s_j`` and its standard error."""
        c = self.covariance
        variance = c[i, i] + c[j, j] - 2 * c[i, j]
        return float(self.values[i] - self.values[j]), float(np.sqrt(max(variance, 0.0)))

    def p(self, i: int, j: int) -> float:
        """Two-sided p of "both are preferred equally often"."""
        difference, error = self.difference(i, j)
        if not error > 0:  # also NaN
            return float("nan") if np.isnan(error) else float(difference == 0)
        return float(2 * student.sf(abs(difference) / error, self.clusters - 1))

    def _quantile(self, level: float) -> float:
        return float(student.ppf(0.5 + level / 2, max(self.clusters - 1, 1)))


def fit(winners: Whole, losers: Whole, clusters: Whole, methods: int) -> Strengths:
    """Strengths from votes.

    Args:
        winners, losers: ``[V]`` numbers of the methods, from 0.
        clusters: ``[V]`` what votes depend on together: the person, or the clip.
        methods: how many there are; comparisons must connect all of them.

    Raises:
        ValueError: no votes, or some methods were never compared with the others.
    """
    wins = np.zeros((methods, methods))
    np.add.at(wins, (winners, losers), 1.0)
    if not connected(wins + wins.T):
        raise ValueError("the votes do not connect all methods with each other")
    values = _maximum(wins)
    groups, number = np.unique(clusters, return_inverse=True)
    return Strengths(values, _jackknife(values, winners, losers, number), len(groups))


def connected(compared: Array) -> bool:
    """Whether comparisons ``[M,M]`` lead from every method to every other one."""
    reached, pending = {0}, [0]
    while pending:
        for other in map(int, np.flatnonzero(compared[pending.pop()])):
            if other not in reached:
                reached.add(other)
                pending.append(other)
    return len(reached) == len(compared)


def probability(values: Array) -> Array:
    """``[M,M]``: how often the method of the row is preferred to that of the column."""
    return np.asarray(1 / (1 + np.exp(values[None, :] - values[:, None])))


def _maximum(wins: Array) -> Array:
    """The maximum of the penalised likelihood, by Newton's method on Firth's modified score."""
    votes = wins + wins.T
    values = np.zeros(len(wins))
    for _ in range(_STEPS):
        p = probability(values)
        weight = votes * p * (1 - p)
        inverse = _inverse(weight)
        spread = np.diag(inverse)
        leverage = weight * (spread[:, None] + spread[None, :] - 2 * inverse)  # of each pair
        score = (wins - votes * p + leverage * (0.5 - p)).sum(1)
        step = inverse @ score
        step *= min(1.0, _LONGEST / max(np.abs(step).max(), 1e-300))
        values = values + step
        values -= values.mean()
        if np.abs(step).max() < _TOLERANCE:
            break
    return np.asarray(values)


def _inverse(weight: Array) -> Array:
    """The inverse of the informations ``[...,M,M]`` on vectors that sum to 0."""
    # A constant on all entries makes the Laplacian regular; it is taken off again.
    methods = weight.shape[-1]
    constant = max(float(weight.mean()), 1e-12)
    information = np.eye(methods) * weight.sum(-1)[..., None] - weight
    return np.asarray(np.linalg.inv(information + constant) - 1 / (constant * methods**2))


def _jackknife(values: Array, winners: Whole, losers: Whole, number: Whole) -> Array:
    """Covariance from one Newton step without each cluster in turn."""
    methods, groups = len(values), int(number.max()) + 1
    own = np.zeros((groups, methods, methods))
    np.add.at(own, (number, winners, losers), 1.0)
    votes = own + own.transpose(0, 2, 1)
    rest = votes.sum(0) - votes  # of all but one
    if groups < 2 or not all(connected(each) for each in rest if (each == 0).sum() > methods):
        return np.full((methods, methods), np.nan)
    p = probability(values)
    score = (own - votes * p).sum(-1)
    moved = -np.einsum("gij,gj->gi", _inverse(rest * p * (1 - p)), score)
    centred = moved - moved.mean(0)
    return np.asarray(centred.T @ centred * (groups - 1) / groups)
