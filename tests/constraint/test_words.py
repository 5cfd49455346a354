"""Alignment of two prompts, and where their attention maps wait."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rerender.constraint._stored_maps import Keep, StoredMaps
from rerender.constraint._words import common, given_up, words

LENGTH, BEGIN, END = 12, 900, 901


def tokens(*numbers: int) -> list[int]:
    """As a tokenizer does it: cut at the length, with an end in any case."""
    return [*([BEGIN, *numbers] + [END] * LENGTH)[: LENGTH - 1], END]


def test_a_style_added_at_the_end_keeps_every_word() -> None:
    source, target = tokens(1, 2, 3), tokens(1, 2, 3, 8, 9)
    assert common(source, target)[:4] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert given_up(source, target) == []
    assert {there for _, there in common(source, target)} == set(range(LENGTH)) - {4, 5}


def test_a_swapped_word_is_given_up_and_the_rest_moves_along() -> None:
    source, target = tokens(1, 2, 3), tokens(7, 1, 5, 3)
    assert common(source, target)[:3] == [(0, 0), (1, 2), (3, 4)]
    assert given_up(source, target) == [2]


def test_ends_are_paired_from_the_first_one_on() -> None:
    assert common(tokens(1), tokens(1, 2, 3))[2:] == [(2 + i, 4 + i) for i in range(8)]


@given(st.lists(st.integers(0, 5), max_size=LENGTH), st.lists(st.integers(0, 5), max_size=LENGTH))
def test_alignment_is_one_to_one_in_order_and_of_equal_tokens(a: list[int], b: list[int]) -> None:
    source, target = tokens(*a), tokens(*b)
    pairs = common(source, target)
    assert pairs == sorted(pairs) and all(source[i] == target[j] for i, j in pairs)
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(side)
    assert set(given_up(source, target)) <= set(words(source))
    assert common(source, source) == [(place, place) for place in range(LENGTH)]


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_stored_maps_give_back_halves_the_last_ones_put(keep: Keep) -> None:
    stored = StoredMaps(keep)
    maps = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    stored.put("first", maps * 0)
    stored.put(("second", 1), maps[:, :, 1:])
    stored.put("first", maps)
    assert torch.equal(stored.get("first", maps), maps.half().float())
    assert torch.equal(stored.get(("second", 1), maps), maps[:, :, 1:].half().float())
    assert stored.nbytes() == 2 * (30 + 24)
