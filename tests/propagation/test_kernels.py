"""PatchMatch's loops against plain definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from rerender.propagation import faithful_kernels, kernels, votes
from rerender.propagation.guides import CHANNELS, Guides, edges

HEIGHT, WIDTH = 21, 26


def picture(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)


def packed(seed: int) -> NDArray[np.uint8]:
    image = picture(seed)
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    return Guides().pack(image, image, edges(image), still)


def cost(
    source: NDArray[np.uint8], target: NDArray[np.uint8], match: tuple[int, int], x: int, y: int
) -> int:
    sx, sy = match
    a = source[sy : sy + 5, sx : sx + 5].astype(int)
    b = target[y : y + 5, x : x + 5].astype(int)
    return int(((a - b) ** 2).sum())


def run(
    stride: int, sweeps: int, seed: int = 1
) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.uint8], NDArray[np.uint8]]:
    source, target = packed(1), packed(2)
    grid = (-(-HEIGHT // stride), -(-WIDTH // stride))
    matches, costs = np.empty((*grid, 2), np.int16), np.empty(grid, np.int32)
    flat = source.reshape(-1), target.reshape(-1)
    costs[:] = kernels.LARGEST
    kernels.start(np.zeros((HEIGHT, WIDTH, 2), np.float32), stride, matches)
    kernels.weigh(*flat, kernels.Plan(WIDTH, stride, -1, 0), matches, costs)
    radii = np.array([8, 2], np.int32)
    for turn in range(sweeps):
        plan = kernels.Plan(WIDTH, stride, -1, 2 * seed + turn)
        kernels.sweep(*flat, plan, radii, matches, matches, costs)
    return matches, costs, source, target


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sweeps", [0, 3])
def test_every_cost_is_that_of_its_match(stride: int, sweeps: int) -> None:
    matches, costs, source, target = run(stride, sweeps)
    for j, i in np.ndindex(costs.shape):
        match = int(matches[j, i, 0]), int(matches[j, i, 1])
        assert costs[j, i] == cost(source, target, match, i * stride, j * stride)


@pytest.mark.parametrize("stride", [1, 2])
def test_sweeps_only_ever_improve(stride: int) -> None:
    costs = [run(stride, sweeps)[1] for sweeps in range(4)]
    for before, after in pairwise(costs):
        assert (after <= before).all()
    assert costs[-1].mean() < 0.9 * costs[0].mean()


def test_easy_patches_are_left_alone() -> None:
    matches, costs, source, target = run(1, 0)
    limit = int(np.median(costs))
    plan = kernels.Plan(WIDTH, 1, limit, 4)
    kept = matches.copy()
    easy = costs <= limit
    flat = source.reshape(-1), target.reshape(-1)
    kernels.sweep(*flat, plan, np.array([9], np.int32), matches, matches, costs)
    assert np.array_equal(matches[easy], kept[easy])
    assert not np.array_equal(matches, kept)


@pytest.mark.parametrize("stride", [1, 2])
def test_votes_are_the_mean_of_all_patches_over_a_pixel(stride: int) -> None:
    matches = run(stride, 3)[0]
    image = picture(5)
    bordered = np.pad(image, ((2, 2), (2, 2), (0, 1)), "edge")
    found = np.empty_like(image)
    votes.mean(votes.vote(bordered, matches, stride), 0, stride, found)
    total = np.zeros((HEIGHT + 4, WIDTH + 4, 3))
    count = np.zeros((HEIGHT + 4, WIDTH + 4, 1))
    for j, i in np.ndindex(matches.shape[:2]):
        x, y, (sx, sy) = i * stride, j * stride, matches[j, i]
        total[y : y + 5, x : x + 5] += bordered[sy : sy + 5, sx : sx + 5, :3]
        count[y : y + 5, x : x + 5] += 1
    expected = (total / np.maximum(count, 1))[2:-2, 2:-2]
    assert (count[2:-2, 2:-2] > 0).all()
    assert np.abs(found - expected).max() < 1e-3


def test_a_perfect_match_votes_the_picture_itself() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.int16)
    image = picture(5)
    bordered = np.pad(image, ((2, 2), (2, 2), (0, 1)), "edge")
    found = np.empty_like(image)
    votes.mean(votes.vote(bordered, np.dstack([x, y]), 1), 0, 1, found)
    assert np.abs(found - image)[2:-2, 2:-2].max() < 1e-3


def test_guides_weigh_as_they_say() -> None:
    """Packed distances are the weighted squared differences, up to rounding."""
    guides, still = Guides(), np.zeros((HEIGHT, WIDTH, 2), np.float32)
    a, b = picture(1), picture(2)
    left, right = (guides.pack(i, i, np.zeros_like(i), still) for i in (a, b))
    got = np.square(left.astype(float) - right).sum(2)[2:-2, 2:-2] * guides.unit
    weight = 6 / 3 + (1 + 0.5) / 3
    assert np.allclose(got, weight * np.square(a - b).sum(2), rtol=0.1, atol=300)
    assert left.shape == (HEIGHT + 4, WIDTH + 4, CHANNELS)


def test_uniformity_spreads_the_use_of_the_source() -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 100, np.float32)
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    plain = Guides(position=0).pack(flat, flat, np.zeros_like(flat), still).reshape(-1)
    used = {}
    for uniformity in (0.0, 3500.0):
        matches = np.zeros((HEIGHT, WIDTH, 2), np.int16)
        faithful_kernels.guess(3, matches)
        costs = np.empty((HEIGHT, WIDTH), np.int32)
        uses = np.empty((HEIGHT + 4, WIDTH + 4), np.int32)
        faithful_kernels.account(plain, plain, matches, costs, uses)
        for sweep in range(6):
            level = faithful_kernels.Level(WIDTH, uniformity, sweep)
            faithful_kernels.search(plain, plain, level, matches, costs, uses)
        assert uses.sum() == HEIGHT * WIDTH * 25
        used[uniformity] = uses[4:-4, 4:-4].std()
    assert used[3500.0] < 0.8 * used[0.0]
