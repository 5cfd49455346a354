"""Statistics against closed forms, scipy, and simulated methods that are and are not different."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from eval import stats
from eval.contracts import Score


def rows(
    values: dict[str, list[list[float]]], metric: str = "m", direction: str = "lower"
) -> list[Score]:
    """method -> clip -> seed -> value, as score rows."""
    return [
        Score(f"clip{c}", method, s, metric, "1", value, 10, "", direction)
        for method, clips in values.items()
        for c, seeds in enumerate(clips)
        for s, value in enumerate(seeds)
    ]


def test_sign_flip_equals_scipy() -> None:
    random = np.random.default_rng(0)
    for clips in (3, 6, 10):
        values = random.normal(0.5, 1, clips)
        theirs = permutation_test(
            (values,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        assert stats.sign_flip(list(values)) == pytest.approx(theirs)
    assert stats.sign_flip([1.0] * 6) == 2 / 64
    assert stats.sign_flip([0.0, 0.0]) == 1


def test_holm_by_hand() -> None:
    # Holm 1979: 4 tests, p = .01 .04 .03 .005 -> .03 .06 .06 .02
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_between_p_and_bonferroni(ps: list[float]) -> None:
    corrected = stats.holm(ps)
    for p, q in zip(ps, corrected, strict=True):
        assert p - 1e-12 <= q <= 1
        assert sorted(ps).index(p) or q <= min(1.0, len(ps) * p) + 1e-12


def test_interval_covers_about_95_percent() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for trial in range(100):
        values = random.normal(0, 1, 40)
        low, high = stats.interval([[v] for v in values], f"trial {trial}")
        assert low is not None and high is not None
        hits += low <= 0 <= high
    assert 88 <= hits <= 99


def test_paired_interval_is_narrow_where_clips_differ_more_than_methods() -> None:
    random = np.random.default_rng(2)
    hard = random.normal(0, 10, 20)
    first = [[h + 1 + 0.1 * random.normal()] for h in hard]
    second = [[float(h)] for h in hard]
    low, high = stats.paired_interval(list(zip(first, second, strict=True)), "x")
    assert low is not None and high is not None and 0.9 < low < 1 < high < 1.1


def test_one_clip_has_no_interval_and_nobody_is_best() -> None:
    data = rows({"a": [[0.1, 0.11, 0.12]], "b": [[0.9, 0.91, 0.92]]})
    summaries = stats.summarise(data)
    assert [s.low for s in summaries] == [None, None]
    assert stats.best("m", "lower", summaries, stats.compare(data)) is None


def made(shift: float, metric: str = "m", direction: str = "lower") -> list[Score]:
    clips = 12
    random = np.random.default_rng(3)
    hard = random.normal(0, 1, clips)
    noise = random.normal(0, 0.3, (3, clips, 2))
    values = {
        name: [[float(h + move + n) for n in noise[k, c]] for c, h in enumerate(hard)]
        for k, (name, move) in enumerate([("a", 0.0), ("b", shift), ("c", shift)])
    }
    return rows(values, metric, direction)


@pytest.mark.parametrize(("shift", "direction", "winner"), [(2, "lower", "a"), (-2, "higher", "a")])
def test_a_clear_winner_is_found(shift: float, direction: str, winner: str) -> None:
    data = made(shift, direction=direction)
    summaries = stats.summarise(data)
    assert stats.best("m", direction, summaries, stats.compare(data)) == winner
    ranks = {s.method: s.rank for s in summaries}
    assert ranks["a"] == 1


def test_equal_methods_have_no_winner() -> None:
    data = made(0)
    summaries = stats.summarise(data)
    assert stats.best("m", "lower", summaries, stats.compare(data)) is None


def test_a_tie_for_the_lead_has_no_winner() -> None:
    data = made(2, direction="higher")
    summaries = stats.summarise(data)  # b and c lead together
    assert stats.best("m", "higher", summaries, stats.compare(data)) is None


def test_many_metrics_make_it_harder() -> None:
    few = made(0.35)
    many = few + [row for k in range(30) for row in made(0, metric=f"noise{k}")]
    alone = next(c for c in stats.compare(few) if (c.first, c.second) == ("a", "b"))
    crowd = next(c for c in stats.compare(many) if (c.metric, c.first, c.second) == ("m", "a", "b"))
    assert alone.p == crowd.p and crowd.p_holm > alone.p_holm


def test_order_of_rows_does_not_matter() -> None:
    data = made(0.5)
    shuffled = [data[i] for i in np.random.default_rng(0).permutation(len(data))]
    assert stats.summarise(data) == stats.summarise(shuffled)
    assert stats.compare(data) == stats.compare(shuffled)


def test_undefined_values_are_left_out_and_pairs_are_matched() -> None:
    data = rows({"a": [[1.0], [2.0], [3.0]], "b": [[1.5], [2.5]]})
    data.append(Score("clip2", "b", 0, "m", "1", None, 0))
    (one,) = stats.compare(data)
    assert one.clips == 2 and one.difference == pytest.approx(-0.5)
    assert {s.method: s.clips for s in stats.summarise(data)} == {"a": 3, "b": 2}


def test_ranks_share_ties() -> None:
    ranks = stats.mean_ranks({"a": {"x": [1.0]}, "b": {"x": [1.0]}, "c": {"x": [2.0]}}, "lower")
    assert ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert stats.mean_ranks({"a": {"x": [1.0]}, "b": {"y": [1.0]}}, "lower") == {}
    assert math.isclose(sum(ranks.values()), 6)
