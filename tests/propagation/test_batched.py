"""The batched search in torch against the compiled one, number for number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation import batched, kernels, votes
from rerender.propagation.guides import Guides, bare, edges
from rerender.propagation.patchmatch import PatchMatch
from rerender.propagation.search import Guided, Search, Task, match
from rerender.video import MemoryVideo
from tests.propagation.scenes import keys, moving, texture

HEIGHT, WIDTH = 33, 42
CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def task(seed: int) -> Task:
    """Two pictures that have little to do with each other, and a flow that points anywhere."""
    random = np.random.default_rng(seed)

    def guided() -> Guided:
        image = random.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
        still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
        packed = Guides().pack(image, image, edges(image), still)
        return Guided(packed, bare(packed))

    # Halves: what is rounded to even must be so in both.
    offset = (random.integers(-30, 31, (HEIGHT, WIDTH, 2)) / 2).astype(np.float32)
    return Task(guided(), guided(), offset, seed)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "search",
    [
        Search(),
        Search(stride=1, radii=(4, 1), hard_sweeps=0),
        Search(sweeps=0, hard=2000.0, hard_sweeps=7, hard_radii=(200, 3)),
    ],
)
def test_matches_are_those_of_the_compiled_search(search: Search, device: torch.device) -> None:
    tasks = [task(seed) for seed in (1, 2, 5)]
    found = batched.match(search, Guides(), tasks, device).cpu().numpy()
    for item, matches in zip(tasks, found, strict=True):
        assert np.array_equal(matches, match(search, Guides(), item, parallel=True))


def test_the_order_of_patches_makes_a_small_difference_only() -> None:
    item, costs = task(3), []
    for parallel in (False, True):
        matches = match(Search(sweeps=4), Guides(), item, parallel)
        cost = np.full(matches.shape[:2], kernels.LARGEST, np.int32)
        flat = item.source.packed.reshape(-1), item.target.packed.reshape(-1)
        kernels.weigh(*flat, kernels.Plan(WIDTH, 2, -1, 0), matches, cost)
        costs.append(cost.mean())
    assert costs[0] != costs[1] and abs(costs[1] / costs[0] - 1) < 0.05


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stride", [1, 2])
def test_votes_are_added_in_the_same_order(stride: int, device: torch.device) -> None:
    random = np.random.default_rng(0)
    picture = random.uniform(0, 255, (HEIGHT + 4, WIDTH + 4, 8)).astype(np.float32)
    search = Search(stride=stride)
    tasks = [task(4), task(6)]
    sums = batched.synthesise(search, Guides(), tasks, [picture, picture[::-1].copy()], device)
    for item, source, total in zip(tasks, (picture, picture[::-1].copy()), sums, strict=True):
        matches = match(search, Guides(), item, parallel=True)
        assert np.array_equal(total, votes.vote(source, matches, stride))


def test_random_numbers_are_the_same() -> None:
    states = torch.arange(-5, 5) * 0x1234567 & 0xFFFFFFFF
    found = [kernels.scramble(np.uint32(state)) for state in states.tolist()]
    assert batched.scramble(states).tolist() == found and len(set(found)) == 10


@pytest.mark.parametrize("temporal", [0.5, 0.0])
@pytest.mark.parametrize("indices", [[0, 5, 6], [3], [0]])
def test_frames_are_the_same_bytes_by_either_backend(temporal: float, indices: list[int]) -> None:
    views = moving(7, 40, 56, speed=3)
    video = MemoryVideo([views[i] if i != 4 else texture(40, 56, 9) for i in range(7)])
    # Auto without a GPU is numba in torch's order.
    compiled = PatchMatch(guides=Guides(style=0.0, temporal=temporal), backend="auto")
    runs = [
        list(propagate(video, keys(video, indices), part, Dis()))
        for part in (compiled, replace(compiled, backend="torch"))
    ]
    assert all(map(torch.equal, *runs)) and len(runs[0]) == 7
