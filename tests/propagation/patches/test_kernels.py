"""PatchMatch's loops against plain definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from rerender.propagation.patches import kernels, published_kernels, votes
from rerender.propagation.patches.cubic import paired
from rerender.propagation.patches.guides import Guides, edges
from rerender.propagation.patches.merge import error
from rerender.propagation.patches.simd import BARE, CHANNELS

HEIGHT, WIDTH = 21, 26


def picture(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)


def packed(seed: int) -> NDArray[np.uint8]:
    image = picture(seed)
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    return Guides().pack(image, image, edges(image), still).packed


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


def test_spread_matches_are_the_cheapest_of_what_their_neighbours_found() -> None:
    found, spent, source, target = run(2, 3)
    matches, costs = np.empty((HEIGHT, WIDTH, 2), np.int16), np.empty((HEIGHT, WIDTH), np.int32)
    plan = kernels.Plan(WIDTH, 1, -1, 0)
    kernels.spread(source.reshape(-1), target.reshape(-1), plan, found, spent, matches, costs)
    rows, columns = spent.shape
    for y, x in np.ndindex(costs.shape):
        near = [
            (
                min(max(int(found[j, i, 0]) + x - 2 * i, 0), WIDTH - 1),
                min(max(int(found[j, i, 1]) + y - 2 * j, 0), HEIGHT - 1),
            )
            for j in {y // 2, min((y + 1) // 2, rows - 1)}
            for i in {x // 2, min((x + 1) // 2, columns - 1)}
        ]
        assert tuple(matches[y, x]) in near
        assert costs[y, x] == min(cost(source, target, match, x, y) for match in near)


def test_where_easy_patches_agree_nothing_is_weighed() -> None:
    found, spent, source, target = run(2, 0)
    matches, costs = np.empty((HEIGHT, WIDTH, 2), np.int16), np.empty((HEIGHT, WIDTH), np.int32)
    plan = kernels.Plan(WIDTH, 1, int(spent.max()), 0)
    kernels.spread(source.reshape(-1), target.reshape(-1), plan, found, spent, matches, costs)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    assert np.array_equal(matches, np.dstack([x, y])) and not costs.any()


def test_votes_are_the_mean_of_all_patches_over_a_pixel() -> None:
    matches, image, source, target = run(1, 3)[0], picture(5), picture(6), picture(7)
    both = paired(image, source)
    found = votes.vote(both, matches, target)
    total = np.zeros((HEIGHT + 4, WIDTH + 4, 8))
    count = np.zeros((HEIGHT + 4, WIDTH + 4, 1))
    for y, x in np.ndindex(matches.shape[:2]):
        sx, sy = matches[y, x]
        total[y : y + 5, x : x + 5] += both[sy : sy + 5, sx : sx + 5]
        count[y : y + 5, x : x + 5] += 1
    expected = (total / np.maximum(count, 1))[2:-2, 2:-2]
    assert np.abs(found.image - expected[..., :3]).max() < 1e-3
    assert np.allclose(found.error, error(expected[..., 3:6].astype(np.float32), target), rtol=1e-4)


def test_a_perfect_match_votes_the_picture_itself() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.int16)
    image = picture(5)
    found = votes.vote(paired(image, image), np.dstack([x, y]), image)
    assert np.abs(found.image - image)[2:-2, 2:-2].max() < 1e-3
    assert found.error[5:-5, 5:-5].max() < 1e-6


@pytest.mark.parametrize("channels", [CHANNELS, BARE])
def test_a_cost_is_the_sum_of_squares_of_a_patch(channels: int) -> None:
    random = np.random.default_rng(0)
    source, target = (
        random.choice(np.array([0, 1, 128, 255], np.uint8), (HEIGHT + 4, WIDTH + 4, channels))
        for _ in range(2)
    )
    matches = np.dstack([random.integers(0, n, (HEIGHT, WIDTH)) for n in (WIDTH, HEIGHT)])
    costs = np.full((HEIGHT, WIDTH), kernels.LARGEST, np.int32)
    plan = kernels.Plan(WIDTH, 1, -1, 0, channels=channels)
    kernels.weigh(source.reshape(-1), target.reshape(-1), plan, matches.astype(np.int16), costs)
    for y, x in np.ndindex(costs.shape):
        assert costs[y, x] == cost(source, target, tuple(matches[y, x]), x, y)


def test_guides_weigh_as_they_say() -> None:
    """Packed distances are the weighted squared differences, up to rounding."""
    guides, still = Guides(), np.zeros((HEIGHT, WIDTH, 2), np.float32)
    a, b = picture(1), picture(2)
    left, right = (guides.pack(i, i, np.zeros_like(i), still).packed for i in (a, b))
    got = np.square(left.astype(float) - right).sum(2)[2:-2, 2:-2] * guides.unit
    weight = 6 / 3 + (1 + 0.5) / 3
    assert np.allclose(got, weight * np.square(a - b).sum(2), rtol=0.1, atol=300)
    assert left.shape == (HEIGHT + 4, WIDTH + 4, CHANNELS)


def test_uniformity_spreads_the_use_of_the_source() -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 100, np.float32)
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    plain = Guides(position=0).pack(flat, flat, np.zeros_like(flat), still).packed.reshape(-1)
    used = {}
    for uniformity in (0.0, 3500.0):
        matches = np.zeros((HEIGHT, WIDTH, 2), np.int16)
        published_kernels.guess(3, matches)
        costs = np.empty((HEIGHT, WIDTH), np.int32)
        uses = np.empty((HEIGHT + 4, WIDTH + 4), np.int32)
        published_kernels.account(plain, plain, matches, costs, uses)
        for sweep in range(6):
            level = published_kernels.Level(WIDTH, uniformity, sweep)
            published_kernels.search(plain, plain, level, matches, costs, uses)
        assert uses.sum() == HEIGHT * WIDTH * 25
        used[uniformity] = uses[4:-4, 4:-4].std()
    assert used[3500.0] < 0.8 * used[0.0]
