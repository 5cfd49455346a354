"""The batched search in torch against the compiled one, number for number."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.patches import batched, kernels, votes
from rerender.propagation.patches.guides import GuidedPicture, Guides, edges
from rerender.propagation.patches.search import Search, Task, match
from rerender.propagation.patches.simd import BARE
from rerender.propagation.patchmatch import PatchMatch
from rerender.video import MemoryVideo
from tests.propagation.scenes import keys, moving, texture

HEIGHT, WIDTH = 33, 42
CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def task(seed: int) -> Task:
    """Two pictures that have little to do with each other, and a flow that points anywhere."""
    random = np.random.default_rng(seed)

    def guided() -> GuidedPicture:
        image = random.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
        still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
        return Guides().pack(image, image, edges(image), still)

    # Halves: what is rounded to even must be so in both.
    offset = (random.integers(-30, 31, (HEIGHT, WIDTH, 2)) / 2).astype(np.float32)
    return Task(guided(), guided(), offset, seed)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "search",
    [
        Search(),
        Search(radii=(4, 1), hard_sweeps=0, fine_sweeps=3),
        Search(sweeps=0, hard=2000.0, hard_sweeps=7, hard_radii=(200, 3), fine_sweeps=0),
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
        flat = item.source.bare.reshape(-1), item.target.bare.reshape(-1)
        kernels.weigh(*flat, kernels.Plan(WIDTH, 1, -1, 0, channels=BARE), matches, cost)
        costs.append(cost.mean())
    assert costs[0] != costs[1] and abs(costs[1] / costs[0] - 1) < 0.05


@pytest.mark.parametrize("device", DEVICES)
def test_a_quiet_flow_is_followed_by_both_alike(device: torch.device) -> None:
    """Cells whose patches agree are not weighed: those of a still frame, but for some noise."""
    image = np.random.default_rng(8).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    noisy = image + 40 * (np.random.default_rng(9).random(image.shape) < 0.01).astype(np.float32)
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    one, other = (Guides().pack(i, i.clip(0, 255), edges(i), still) for i in (image, noisy))
    item = Task(one, other, still, 3)
    found = batched.match(Search(), Guides(), [item], device)[0].cpu().numpy()
    assert np.array_equal(found, match(Search(), Guides(), item, parallel=True))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    assert (found == np.dstack([x, y])).all(2).mean() > 0.8


@pytest.mark.parametrize("device", DEVICES)
def test_votes_are_added_in_the_same_order(device: torch.device) -> None:
    random = np.random.default_rng(0)
    picture = random.uniform(0, 255, (HEIGHT + 4, WIDTH + 4, 8)).astype(np.float32)
    pictures, target = [picture, picture[::-1].copy()], picture[2:-2, 2:-2, :3].copy()
    tasks = [task(4), task(6)]
    sums = batched.synthesise(Search(), Guides(), tasks, pictures, device)
    for item, both, total in zip(tasks, pictures, sums, strict=True):
        matches = match(Search(), Guides(), item, parallel=True)
        pair: Any = votes.vote(both, matches, target), votes.settled(total, target)
        assert all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))


INTERPRETED = """
import torch
from rerender.flow import dis_torch
from rerender.propagation.motion import tensors as refinement
from rerender.propagation.patches import batched, tensors
from rerender.propagation.patches.guides import Guides
from rerender.propagation.patches.search import Search

height, width, generator = 13, 14, torch.Generator().manual_seed(1)

def guides(channels):
    shape = (2, height + 4, width + 4, channels)
    return torch.randint(256, shape, generator=generator).byte()

sources, targets = ([guides(16), guides(8)] for _ in range(2))
for source, target in zip(sources, targets):
    # Half of the frame is still, so that some matches are left alone.
    target[:, :8] = source[:, :8]
offset = torch.randint(-30, 31, (2, height, width, 2), generator=generator) / 2
offset[:, :6] = 0
pictures = 255 * torch.rand(2, height + 4, width + 4, 8, generator=generator)
frame = 255 * torch.rand(2, height, width, 3, generator=generator)
both = tensors.bordered(pictures[:, 2:-2, 2:-2])

def everything(search):
    found = batched.matched(search, Guides(), [4, 7], sources, targets, offset)
    moved = tensors.warped(both, 3.3 * offset, frame)
    return found, batched.vote(pictures, found), moved

search = Search(hard=900.0, hard_sweeps=2, hard_radii=(200,))
expected = everything(search)
batched.fused = tensors.fused = lambda device: True
found = everything(search)
assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
for mine, theirs in zip(found[2][:2], expected[2][:2]):  # without detail
    assert torch.allclose(mine, theirs, atol=0.05), (mine - theirs).abs().max()

source, target = (images.permute(0, 3, 1, 2) for images in (both[:, 2:-2, 2:-2, :3], frame))
flow = torch.randn(2, 2, height, width, generator=generator)
expected = refinement.refine(source, target, flow)
refinement.fused = lambda device: True
found = refinement.refine(source, target, flow)
assert torch.allclose(found, expected, atol=1e-4) and (found - flow).abs().mean() > 0.01

planes = torch.rand(2, 3, 9, 14, generator=generator)
for side in (3, 17):
    tensors.fused = lambda device: False
    expected = tensors.box(planes, side)
    tensors.fused = lambda device: True
    assert torch.allclose(tensors.box(planes, side), expected, atol=1e-5)
images = torch.nn.functional.interpolate(planes, (12, 30), mode="bicubic").chunk(2)
start = 2 * torch.rand(1, 2, 12, 30, generator=generator)
expected = dis_torch.DisTorch().estimate(*images, start)
dis_torch.fused = lambda device: True
found = dis_torch.DisTorch().estimate(*images, start)
assert torch.allclose(found, expected, atol=2e-3) and (found - start).abs().mean() > 0.01
"""


def test_kernels_for_gpus_do_what_torch_does() -> None:
    """By Triton's interpreter, which needs no GPU; it is chosen before Triton is imported."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_random_numbers_are_the_same() -> None:
    states = torch.arange(-5, 5) * 0x1234567 & 0xFFFFFFFF
    found = [
        kernels.scramble(np.uint32(state))  # type: ignore[arg-type]
        for state in states.tolist()
    ]
    assert batched.scramble(states).tolist() == found and len(set(found)) == 10


@pytest.mark.parametrize("temporal", [0.5, 0.0])
@pytest.mark.parametrize("indices", [[0, 5, 6], [3], [0]])
def test_frames_are_the_same_by_either_backend(temporal: float, indices: list[int]) -> None:
    views = moving(7, 40, 56, speed=3)
    video = MemoryVideo([views[i] if i != 4 else texture(40, 56, 9) for i in range(7)])
    # Auto without a GPU is numba in torch's order.
    compiled = PatchMatch(guides=Guides(style=0.0, temporal=temporal), backend="auto")
    runs = [
        list(propagate(video, keys(video, indices), part, Dis()))
        for part in (compiled, replace(compiled, backend="torch"))
    ]
    assert len(runs[0]) == len(runs[1]) == 7
    # Sums in another order round guides differently here and there.
    for one, other in zip(*runs, strict=True):
        assert (one - other).square().mean() < 1e-8
