"""Strengths, agreement and numbers of people: closed forms, published examples, simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from experiments.study import design
from experiments.study.agreement import agreement, people_needed, predicted, votes_needed
from experiments.study.bradley_terry import fit, probability

TRUE = np.array([-0.9, -0.3, 0.3, 0.9])
Votes = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(
    rng: np.random.Generator, people: int, clips: int, trials: int, true: np.ndarray = TRUE
) -> Votes:
    """Winners, losers and people of a study whose strengths are known."""
    plans = design.plans([[True] * len(true)] * clips, people, trials, 0, 0)
    pairs = np.array([(p.left, p.right, person) for person, plan in enumerate(plans) for p in plan])
    left, right, who = pairs.T
    won = rng.random(len(left)) < 1 / (1 + np.exp(true[right] - true[left]))
    return np.where(won, left, right), np.where(won, right, left), who


@pytest.mark.parametrize(("people", "clips", "trials"), [(20, 4, 24), (12, 8, 20)])
def test_500_studies_of_known_strengths(people: int, clips: int, trials: int) -> None:
    rng = np.random.default_rng(1)
    covered, ordered = [], 0
    for _ in range(500):
        found = fit(*simulated(rng, people, clips, trials), len(TRUE))
        low, high = found.interval()
        covered.append((low <= TRUE) & (high >= TRUE))
        ordered += list(np.argsort(found.values)) == [0, 1, 2, 3]
    assert 0.93 <= np.mean(covered) <= 0.97
    assert ordered >= 0.97 * 500


def test_a_study_of_equal_methods_finds_none_better() -> None:
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(300):
        found = fit(*simulated(rng, 20, 4, 24, np.zeros(4)), 4)
        wrong += found.p(0, 3) < 0.05
    assert 0.02 <= wrong / 300 <= 0.085


def test_two_methods_have_a_closed_form() -> None:
    """Firth's estimate of one log-odds is log((a + 1/2) / (b + 1/2)) (Firth 1993)."""
    winners, losers = np.array([0] * 7 + [1] * 3), np.array([1] * 7 + [0] * 3)
    found = fit(winners, losers, np.arange(10), 2)
    assert found.difference(0, 1)[0] == pytest.approx(math.log(7.5 / 3.5), abs=1e-8)
    assert found.values.sum() == pytest.approx(0, abs=1e-12)


def test_the_penalised_likelihood_is_at_its_maximum() -> None:
    rng = np.random.default_rng(3)
    winners, losers, people = simulated(rng, 6, 2, 10)
    wins = np.zeros((4, 4))
    np.add.at(wins, (winners, losers), 1.0)

    def negative(free: np.ndarray) -> float:
        values = np.append(free, 0.0)
        p = probability(values)
        weight = (wins + wins.T) * p * (1 - p)
        information = np.diag(weight.sum(1)) - weight
        log = (wins * np.log(p)).sum()
        return -float(log + 0.5 * np.linalg.slogdet(information[:3, :3])[1])

    best = np.append(minimize(negative, np.zeros(3), tol=1e-12).x, 0.0)
    found = fit(winners, losers, people, 4)
    assert found.values == pytest.approx(best - best.mean(), abs=1e-4)


def test_who_wins_every_vote_has_a_finite_strength() -> None:
    found = fit(np.zeros(30, int), np.ones(30, int), np.arange(30), 2)
    assert np.isfinite(found.values).all()
    assert found.values[0] > 1


def test_one_person_gives_no_interval() -> None:
    found = fit(np.array([0, 0, 1]), np.array([1, 1, 0]), np.zeros(3, int), 2)
    assert np.isnan(found.interval()[0]).all()
    assert math.isnan(found.p(0, 1))


def test_methods_that_nothing_connects_are_refused() -> None:
    with pytest.raises(ValueError, match="connect"):
        fit(np.array([0, 2]), np.array([1, 3]), np.array([0, 1]), 4)


def test_agreement_is_kendalls_u() -> None:
    alike = [(person, item, True) for person in range(5) for item in range(4)]
    assert agreement(alike).u == 1
    assert agreement(alike).others == 1
    # Four people, one pair, 3 to 1: 3 of 6 pairs of people agree.
    split = agreement([(0, 0, True), (1, 0, True), (2, 0, True), (3, 0, False)])
    assert (split.share, split.u, split.pairs) == (0.5, 0.0, 6)
    # Each of the three: two others, one of whom agrees (half); the fourth is against all.
    assert split.others == pytest.approx(0.75)
    assert agreement([(0, 0, True), (1, 1, True)]).u is None


def test_the_interval_of_agreement_covers_the_truth() -> None:
    rng, covered = np.random.default_rng(4), 0
    p = rng.uniform(0.2, 0.9, 20)  # of each pair of videos, the same in all studies
    true = 2 * np.mean(p**2 + (1 - p) ** 2) - 1
    for _ in range(200):
        votes = [(k, n, bool(rng.random() < p[n])) for k in range(15) for n in range(20)]
        found = agreement(votes)
        assert found.low is not None and found.high is not None
        covered += found.low <= true <= found.high
    assert covered / 200 >= 0.9


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8])
def test_with_so_many_votes_a_preference_is_found(share: float) -> None:
    n = votes_needed(share)
    # The textbook formula for the sign test, normal approximation.
    z = (1.959964 * 0.5 + 0.841621 * math.sqrt(share * (1 - share))) / (share - 0.5)
    assert z**2 * 0.9 <= n <= z**2 * 1.25 + 6
    rng = np.random.default_rng(5)
    from scipy.stats import binomtest

    found = [binomtest(int(k), n).pvalue < 0.05 for k in rng.binomial(n, share, 400)]
    assert 0.75 <= np.mean(found) <= 0.9


def test_with_so_many_people_a_difference_is_found() -> None:
    """From a large pilot the number of people is taken, and studies of that size are simulated."""
    rng = np.random.default_rng(6)
    pilot = fit(*simulated(rng, 400, 4, 12), 4)
    difference, error = pilot.difference(2, 1)
    needed = people_needed(difference, error, 400)
    assert needed is not None
    found = [fit(*simulated(rng, needed, 4, 12), 4).p(2, 1) < 0.05 for _ in range(200)]
    assert 0.7 <= np.mean(found) <= 0.9
    assert people_needed(0.0, 0.1, 9) is None


def test_how_well_a_metric_predicts() -> None:
    votes = [("a", 1.0), ("a", 2.0), ("b", -1.0), ("b", 0.0)]
    found = predicted(votes)
    assert (found["share"], found["votes"]) == (0.625, 4)
    assert found["low"] == 0.25 and found["high"] == 1.0
    assert predicted([])["share"] is None
    assert predicted(votes[:2])["low"] is None
