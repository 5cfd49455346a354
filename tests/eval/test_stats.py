"""Statistics against closed forms, scipy, and simulated methods that are and are not different."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, rankdata, ttest_1samp

from eval import stats
from eval.score_files import Score


def rows(
    values: dict[str, list[list[float]]], metric: str = "m", direction: str = "lower"
) -> list[Score]:
    """method -> clip -> seed -> value, as score rows."""
    return [
        Score(f"clip{c:02d}", method, s, metric, "1", value, 10, "", direction)
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
    assert stats.sign_flip([1.0] * 20) == 2 / 2**20, "exact up to twenty"


def test_random_flips_agree_with_the_exact_test_and_resolve_what_correction_needs() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 20)
    exact = stats.sign_flip(values)
    about = stats.sign_flip([*values, 0.0])  # one more that changes no sum, so patterns are drawn
    assert about == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))
    for tests in (1, 100, 1000):
        assert stats.sign_flip([1.0] * 40, tests) <= 0.05 / tests / 20 * 1.01


def test_holm_by_hand() -> None:
    # Holm 1979: 4 tests, p = .01 .04 .03 .005 -> .03 .06 .06 .02
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_between_p_and_bonferroni(ps: list[float]) -> None:
    corrected = stats.holm(ps)
    for p, q in zip(ps, corrected, strict=True):
        assert p - 1e-12 <= q <= 1
        assert sorted(ps).index(p) or q <= min(1.0, len(ps) * p) + 1e-12


def test_interval_equals_scipy() -> None:
    values = np.random.default_rng(5).lognormal(-6, 0.7, 9)
    theirs = ttest_1samp(values, 0).confidence_interval()
    assert stats.estimate(values)[1:] == pytest.approx([theirs.low, theirs.high])
    theirs = ttest_1samp(np.log(values), 0).confidence_interval()
    mean, *ends = stats.estimate(values, ratio=True)
    assert ends == pytest.approx([math.exp(theirs.low), math.exp(theirs.high)])
    assert mean == pytest.approx(math.exp(np.log(values).mean()))
    assert stats.estimate(np.array([0.0, 1.0]), ratio=True) == (0.0, None, None)
    assert stats.estimate(np.array([3.0])) == (3.0, None, None)


@pytest.mark.parametrize("clips", [5, 8, 16, 50])
@pytest.mark.parametrize("metric", ["m", "warp_error"])
def test_intervals_cover_95_percent(clips: int, metric: str) -> None:
    """Normal values of a metric, log-normal ones of a ratio; three seeds vary within each clip."""
    random, trials, hits = np.random.default_rng(clips), 2500, 0
    drawn = random.normal(0, 1, (trials, clips, 1)) + random.normal(0, 1, (trials, clips, 3))
    for values in drawn.mean(2):
        ratio = stats.is_ratio(metric)
        _, low, high = stats.estimate(np.exp(values) if ratio else values, ratio)
        assert low is not None and high is not None
        hits += low <= (1 if ratio else 0) <= high
    assert 0.93 <= hits / trials <= 0.97


def test_prompts_of_one_video_are_one_cluster() -> None:
    """Six videos with four prompts each: clips as if independent would cover 70 percent."""
    random, hits, wrong = np.random.default_rng(1), 0, 0
    for _ in range(150):
        values = random.normal(0, 1, (6, 1)) + random.normal(0, 0.3, (6, 4))
        made = [
            Score(f"v{v}: p{p}", "a", 0, "m", "1", float(values[v, p]), 9, source_clip=f"v{v}")
            for v in range(6)
            for p in range(4)
        ]
        (one,) = stats.summarise(made)
        (loose,) = stats.summarise([replace(row, source_clip="") for row in made])
        assert one.mean == pytest.approx(loose.mean) and one.clips == 24
        assert None not in (one.low, one.high, loose.low, loose.high)
        hits += float(one.low or 0) <= 0 <= float(one.high or 0)
        wrong += float(loose.low or 0) <= 0 <= float(loose.high or 0)
    assert hits >= 0.9 * 150 > 0.8 * 150 > wrong


@pytest.mark.parametrize("clips", [6, 8, 16, 25])
def test_the_level_of_a_test_is_kept(clips: int) -> None:
    random, trials = np.random.default_rng(clips), 400 if clips < 20 else 80
    draws: list[Callable[[], np.ndarray]] = [  # symmetric about 0, with light and heavy tails
        lambda: random.normal(0, 1, clips),
        lambda: random.standard_t(2, clips),
    ]
    for draw in draws:
        ps = np.array([stats.sign_flip(draw()) for _ in range(trials)])
        for level in (0.05, 0.2):
            spread = math.sqrt(level * (1 - level) / trials)
            assert (ps <= level).mean() <= level + 3.3 * spread
        assert (ps <= 0.2).mean() > 0.08, "and it is no test that never rejects"


def null(random: np.random.Generator, clips: int, rows_: int, metrics: int) -> list[Score]:
    """Methods that do not differ; clips do, and metrics go together."""
    hard = random.normal(0, 2, (clips, 1))
    found = []
    for m in range(metrics):
        noise = random.normal(0, 1, (clips, rows_))
        values = {f"r{r}": [[float(v)] for v in (hard[:, 0] + noise[:, r])] for r in range(rows_)}
        found += rows(values, f"m{m}")
    return found


def test_all_tests_and_claims_of_a_table_together_keep_the_level() -> None:
    random, trials, wrong, bold = np.random.default_rng(7), 120, 0, 0
    primary = ["m0", "m1", "m2"]
    for _ in range(trials):
        made = null(random, 12, 4, 3)
        found = stats.compare(made, "r0", primary)
        wrong += any(c.p_holm is not None and c.p_holm < 0.05 for c in found)
        names = [f"r{r}" for r in range(4)]
        bold += any(stats.leaders(made, metric, names, 3)[0] for metric in primary)
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert wrong / trials <= limit and bold / trials <= limit


def made(shift: float, metric: str = "m", direction: str = "lower", clips: int = 12) -> list[Score]:
    """Method a, and b and c that are apart from it by ``shift``, both alike."""
    random = np.random.default_rng(3)
    hard = random.normal(0, 1, clips)
    noise = random.normal(0, 0.3, (3, clips, 2))
    values = {
        name: [[float(h + move + n) for n in noise[k, c]] for c, h in enumerate(hard)]
        for k, (name, move) in enumerate([("a", 0.0), ("b", shift), ("c", shift)])
    }
    return rows(values, metric, direction)


@pytest.mark.parametrize(("shift", "direction"), [(2, "lower"), (-2, "higher")])
def test_a_clear_winner_is_found(shift: float, direction: str) -> None:
    data = made(shift, direction=direction)
    assert stats.leaders(data, "m", "abc", 3) == ("a", None), "b and c are alike"
    assert {s.method: s.rank for s in stats.summarise(data)}["a"] == 1
    found = stats.compare(data, "a", ["m"])
    assert all(c.p_holm is not None and c.p_holm < 0.01 for c in found)


def test_a_hundred_times_better_is_seen_from_the_fewest_clips_on() -> None:
    """Five rows, three metrics: nine clips suffice, eight cannot."""
    assert [stats.needed(tests) for tests in (1, 12, 69)] == [6, 9, 12]
    for clips in (8, 9, 12, 16):
        values = {
            name: [[0.01 * factor * (1 + c / 20)] for c in range(clips)]
            for name, factor in {"a": 0.01, "b": 0.1, "c": 1, "d": 1.5, "e": 2}.items()
        }
        data = rows(values, "warp_error")
        assert stats.leaders(data, "warp_error", "abcde", 3) == (
            ("a", "b") if clips >= 9 else (None, None)
        )


@pytest.mark.parametrize(("shift", "direction"), [(0, "lower"), (2, "higher")])
def test_equal_methods_and_ties_for_the_lead_have_no_winner(shift: float, direction: str) -> None:
    assert stats.leaders(made(shift, direction=direction), "m", "abc", 1) == (None, None)


def test_only_primary_metrics_are_tested_and_corrected_for() -> None:
    few = made(0.35)
    many = few + [row for k in range(30) for row in made(0, metric=f"noise{k}")]
    alone, crowd = (
        {(c.metric, c.method): c for c in stats.compare(data, "a", ["m"])} for data in (few, many)
    )
    assert crowd["m", "b"] == alone["m", "b"] and len(crowd) == 62
    assert crowd["noise0", "b"].p is None and crowd["noise0", "b"].low is not None
    more = next(c for c in stats.compare(many, "a", ["m", "noise0"]) if c.metric == "m")
    assert more.p == alone["m", "b"].p and (more.p_holm or 0) > (alone["m", "b"].p_holm or 1)


def test_ratios_are_compared_as_ratios() -> None:
    """Half of every clip's error is -50 %, however hard the clips are."""
    hard = [1e-5 * 10**c for c in range(4)]
    data = rows({"a": [[h / 2] for h in hard], "b": [[h] for h in hard]}, "warp_error")
    (one,) = stats.compare(data, "b", [])
    assert (one.difference, one.low, one.high) == pytest.approx((-0.5, -0.5, -0.5))
    assert one.relative and not stats.compare(made(0), "a", [])[0].relative
    mean = next(s.mean for s in stats.summarise(data) if s.method == "b")
    assert mean == pytest.approx(math.exp(np.log(hard).mean()))


def test_paired_interval_is_narrow_where_clips_differ_more_than_methods() -> None:
    random = np.random.default_rng(2)
    hard = random.normal(0, 10, 20)
    first = [[h + 1 + 0.1 * random.normal()] for h in hard]
    (one,) = stats.compare(rows({"a": first, "b": [[float(h)] for h in hard]}), "b", [])
    assert one.low is not None and one.high is not None and 0.9 < one.low < 1 < one.high < 1.1


def test_one_clip_has_no_interval_and_nobody_is_best() -> None:
    data = rows({"a": [[0.1, 0.11, 0.12]], "b": [[0.9, 0.91, 0.92]]})
    assert [s.low for s in stats.summarise(data)] == [None, None]
    assert stats.leaders(data, "m", "ab", 1) == (None, None)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(random: object) -> None:
    data = made(0.5)
    shuffled = list(data)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stats.summarise(data) == stats.summarise(shuffled)
    assert stats.compare(data, "a", ["m"]) == stats.compare(shuffled, "a", ["m"])


def test_a_method_that_lacks_a_clip_is_marked_and_neither_ranked_nor_best() -> None:
    values = {"a": [[1.0], [2.0], [3.0], [9.0]], "b": [[1.0], [2.0], [3.0], [9.0]]}
    data = rows(values)[:-1]  # the same videos, the hardest one of b is missing
    found = {s.method: s for s in stats.summarise(data)}
    assert (found["b"].clips, found["b"].of, found["b"].rank) == (3, 4, None)
    assert (found["a"].clips, found["a"].of, found["a"].rank) == (4, 4, 1)
    (one,) = stats.compare(data, "a", ["m"])
    assert (one.clips, one.of, one.difference, one.p) == (3, 4, 0, 1)
    many = rows({"a": [[1.0]] * 12, "b": [[0.5]] * 12, "c": [[2.0]] * 12})
    assert stats.leaders(many, "m", "abc", 1) == ("b", "a")
    short = [row for row in many if (row.method, row.clip) != ("b", "clip03")]
    assert stats.leaders(short, "m", "abc", 1)[0] == "a", "of those that have all clips"


def test_undefined_values_are_left_out_and_pairs_are_matched() -> None:
    data = rows({"a": [[1.0], [2.0], [3.0]], "b": [[1.5], [2.5]]})
    data.append(Score("clip02", "b", 0, "m", "1", None, 0))
    (one,) = stats.compare(data, "b", ["m"])
    assert one.clips == 2 and one.difference == pytest.approx(-0.5)


def test_ranks_share_ties() -> None:
    ranks = stats.mean_ranks({"a": {"x": [1.0]}, "b": {"x": [1.0]}, "c": {"x": [2.0]}}, "lower")
    assert ranks == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert stats.mean_ranks({"a": {"x": [1.0]}, "b": {"y": [1.0]}}, "lower") == {}
    assert math.isclose(sum(ranks.values()), 6)


def test_more_clips_give_narrower_intervals() -> None:
    spans = []
    for clips in (6, 12, 24, 48):
        one = stats.summarise(made(0, clips=clips))[0]
        spans.append(float(one.high or 0) - float(one.low or 0))
    assert all(later < earlier for earlier, later in pairwise(spans))


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=6),
    st.sampled_from(["lower", "higher"]),
)
def test_ranks_are_those_of_scipy(rows: list[list[int]], direction: str) -> None:
    methods = {
        name: {f"c{clip}": [float(row[place])] for clip, row in enumerate(rows)}
        for place, name in enumerate("xyz")
    }
    sign = 1 if direction == "lower" else -1
    wanted = np.mean([rankdata([sign * value for value in row]) for row in rows], axis=0)
    assert list(stats.mean_ranks(methods, direction).values()) == list(wanted)
