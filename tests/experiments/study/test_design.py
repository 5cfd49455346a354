"""The design is balanced for every number of clips, methods and people."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.study import design
from experiments.study.design import StudyPair


def comparisons(plan: list[StudyPair]) -> list[StudyPair]:
    return [pairing for pairing in plan if not pairing.check]


@settings(max_examples=60, deadline=None)
@given(
    clips=st.integers(1, 6),
    methods=st.integers(2, 6),
    people=st.integers(1, 12),
    trials=st.integers(1, 40),
    checks=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_every_pair_and_side_is_shown_equally_often(
    clips: int, methods: int, people: int, trials: int, checks: int, seed: int
) -> None:
    found = design.plans([[True] * methods] * clips, people, trials, min(checks, trials), seed)
    assert found == design.plans(
        [[True] * methods] * clips, people, trials, min(checks, trials), seed
    )
    every = [pairing for plan in found for pairing in comparisons(plan)]
    pairs = Counter((p.clip, frozenset((p.left, p.right))) for p in every)
    total = clips * methods * (methods - 1) // 2
    counts = [*pairs.values(), *[0] * (total - len(pairs))]
    assert max(counts) - min(counts) <= 1
    sided = Counter((p.clip, p.left, p.right) for p in every)
    for (clip, left, right), count in sided.items():
        assert abs(count - sided[clip, right, left]) <= 1
    for plan in found:  # nobody sees a pair twice
        own = Counter((p.clip, frozenset((p.left, p.right))) for p in comparisons(plan))
        assert max(own.values()) == 1
        assert len(own) == min(trials, total)


@pytest.mark.parametrize(("methods", "clips"), [(3, 4), (4, 2), (5, 3)])
def test_within_a_person_each_method_is_as_often_left_as_right(methods: int, clips: int) -> None:
    for plan in design.plans([[True] * methods] * clips, 6, 999, 0, 1):
        left = Counter(p.left for p in plan)
        right = Counter(p.right for p in plan)
        assert all(abs(left[m] - right[m]) <= 1 for m in range(methods))


@pytest.mark.parametrize("size", [4, 5, 6, 9])
def test_orders_are_a_williams_square(size: int) -> None:
    rows = [design.williams(size, row) for row in range(size if size % 2 == 0 else 2 * size)]
    for place in range(size):
        counts = Counter(row[place] for row in rows)
        assert set(counts) == set(range(size)) and len(set(counts.values())) == 1
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert len(follows) == size * (size - 1) and len(set(follows.values())) == 1


def test_attention_checks_are_spread_and_their_sides_balanced() -> None:
    found = design.plans([[True] * 4] * 3, 12, 12, 2, 0)
    sides = Counter(p.check for plan in found for p in plan if p.check)
    assert sides["left"] == sides["right"] == 12
    for plan in found:
        places = [place for place, p in enumerate(plan) if p.check]
        assert len(plan) == 14 and places[0] >= 1 and places[1] - places[0] >= 3
        assert all(p.left == p.right for p in plan if p.check)


def test_videos_that_are_not_there_are_not_shown() -> None:
    shown = [[True, True, False], [True, False, True]]
    every = [p for plan in design.plans(shown, 4, 9, 0, 0) for p in plan]
    assert {(p.clip, frozenset((p.left, p.right))) for p in every} == {
        (0, frozenset((0, 1))),
        (1, frozenset((0, 2))),
    }
