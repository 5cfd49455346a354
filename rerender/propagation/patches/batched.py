"""PatchMatch's search and vote for many frames at once, in torch, on any device.

Number for number what `search.match` (in parallel order) and `votes.vote` do: costs are whole
numbers, random numbers are keyed by their place, and votes are added in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerender.compiled import fused
from rerender.contracts.upload import upload
from rerender.propagation.patches.guides import Guides
from rerender.propagation.patches.kernels import LARGEST, Plan
from rerender.propagation.patches.search import STRIDE, Round, Search, Task
from rerender.propagation.patches.simd import SIDE

CHUNK = 1 << 15
"""Patches compared at a time: 52 MB of whole numbers on each side."""

NOWHERE = -(1 << 20)
"""A coordinate outside every image."""


class Field(NamedTuple):
    """The state of a search over ``B`` frames of ``[h,w]`` patches.

    Attributes:
        x, y: ``[B,h,w]`` matched pixel of the source.
        cost: ``[B,h,w]`` of that match.
    """

    x: Tensor
    y: Tensor
    cost: Tensor


def synthesise(
    search: Search,
    guides: Guides,
    tasks: Sequence[Task],
    pictures: Sequence[NDArray[np.float32]],
    device: torch.device,
) -> NDArray[np.float32]:
    """Every frame's own picture ``[H+4,W+4,C]`` put together from patches, which are
    not yet divided by their number: ``[B,H,W,C]``."""
    matches = match(search, guides, tasks, device)
    return vote(stacked(pictures, device), matches).cpu().numpy()


def match(search: Search, guides: Guides, tasks: Sequence[Task], device: torch.device) -> Tensor:
    """The source pixel of every pixel's patch in every frame, ``[B,H,W,2]``; frames are of one
    size."""
    sources, targets = (
        [stacked([pictures[kind] for pictures in every], device) for kind in (0, 1)]
        for every in ([task.source for task in tasks], [task.target for task in tasks])
    )
    offset = stacked([task.offset for task in tasks], device)
    return matched(search, guides, [task.frame for task in tasks], sources, targets, offset)


def matched(
    search: Search,
    guides: Guides,
    frames: Sequence[int],
    sources: Sequence[Tensor],
    targets: Sequence[Tensor],
    offset: Tensor,
) -> Tensor:
    """`match` of what is on the device already.

    Args:
        search: how far to look.
        guides: their weights.
        frames: the number of each frame, the seed of its random candidates.
        sources, targets: both kinds of guides (see `guides.GuidedPicture`) of the key frames and
            the frames, ``[B,H+4,W+4,16]`` and ``[B,H+4,W+4,8]`` bytes.
        offset: ``[B,H,W,2]`` from frames to key frames.
    """
    _, height, width, _ = offset.shape
    field = begin(offset)
    every = [search.rounds(guides, width, frame, True) for frame in frames]
    first, hard, fine = zip(*every, strict=True)
    for rounds, kind in ((first, 0), (hard, 1)):
        pair = Packs(sources[kind], targets[kind], (height, width, STRIDE))
        field = passes(pair, weigh(pair, field, rounds[0].plan.hard), rounds)
    pair = Packs(sources[1], targets[1], (height, width, 1))
    return torch.stack(passes(pair, spread(pair, field, fine[0].plan.hard), fine)[:2], -1)


def passes(pair: Packs, field: Field, rounds: Sequence[Round]) -> Field:
    """The sweeps of a round, in step over all frames."""
    if not rounds[0].plans:
        return field
    device, begin_, radii = field.x.device, rounds[0].plan.seed, rounds[0].radii
    numbers = upload(torch.tensor([*(round_.plan.seed for round_ in rounds), *radii]), device)
    seeds, reaches = numbers[: len(rounds)], numbers[len(rounds) :].int()
    for plan in rounds[0].plans:
        turn = plan.seed - begin_
        if fused(device):
            from rerender.propagation.patches import triton_search

            pass_ = plan.hard, back(plan), turn
            packs = pair.source, pair.target
            state = triton_search.sweep(packs, pair.size, field, seeds, reaches, pass_, SIDE)
            field = Field(*state)
        else:
            field = sweep(pair, field, plan, seeds + turn, radii)
    return field


def weigh(pair: Packs, field: Field, hard: int) -> Field:
    """The matches with their costs where these were above ``hard`` (see `kernels.weigh`)."""
    if fused(field.x.device):
        from rerender.propagation.patches import triton_search

        packs = pair.source, pair.target
        return field._replace(cost=triton_search.weigh(packs, pair.size, field, hard, SIDE))
    cost = pair.cost(field.x, field.y, field.cost > hard)
    return field._replace(cost=torch.where(cost < 0, field.cost, cost))


def spread(pair: Packs, field: Field, easy: int) -> Field:
    """Matches for every pixel from those at stride 2 (see `kernels.spread`)."""
    if fused(field.x.device):
        from rerender.propagation.patches import triton_search

        return Field(
            *triton_search.spread((pair.source, pair.target), pair.size, field, easy, SIDE)
        )
    height, width, _ = pair.size
    place = [
        torch.arange(length, device=field.x.device, dtype=torch.int32) for length in (height, width)
    ]
    candidates = [moved(field, place, n // 2, n % 2, (height, width)) for n in range(4)]
    loud = ~quiet(field, easy)[:, place[0] // 2][:, :, place[1] // 2]
    x, y = candidates[0]
    cost = torch.where(loud, pair.cost(x, y, loud), 0)
    found = Field(x, y, cost)
    for x, y in candidates[1:]:
        found = better(pair, found, x, y, loud)
    return found


def moved(
    field: Field, place: Sequence[Tensor], down: int, right: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Where the patch nearest to each pixel points it to, towards the top left or the others."""
    _, rows, columns = field.x.shape
    j = ((place[0] + down) // 2).clamp(max=rows - 1)
    i = ((place[1] + right) // 2).clamp(max=columns - 1)
    x = field.x[:, j][:, :, i] + place[1] - 2 * i
    y = field.y[:, j][:, :, i] + (place[0] - 2 * j)[:, None]
    return x.clamp(0, size[1] - 1), y.clamp(0, size[0] - 1)


def quiet(field: Field, easy: int) -> Tensor:
    """Cells of four patches that are easy and moved alike, ``[B,h,w]``."""
    _, rows, columns = field.x.shape
    device = field.x.device
    x = field.x - 2 * torch.arange(columns, device=device, dtype=torch.int32)
    y = field.y - 2 * torch.arange(rows, device=device, dtype=torch.int32)[:, None]
    below = (torch.arange(rows, device=device) + 1).clamp(max=rows - 1)
    right = (torch.arange(columns, device=device) + 1).clamp(max=columns - 1)
    same = torch.ones_like(x, dtype=torch.bool)
    for rows_, columns_ in ((slice(None), right), (below, slice(None)), (below, right)):
        for values in (x, y):
            same &= values[:, rows_][:, :, columns_] == values
    calm = field.cost <= easy
    calm = calm & calm[:, below]
    return same & calm & calm[:, :, right]


def begin(offset: Tensor) -> Field:
    """Matches where flow ``[B,H,W,2]`` points to, not yet weighed."""
    height, width = offset.shape[1:3]
    x, y = places(height, width, STRIDE, offset.device)
    reached = offset[:, ::STRIDE, ::STRIDE].double()
    sx = (x + reached[..., 0]).round().int().clamp(0, width - 1)
    sy = (y + reached[..., 1]).round().int().clamp(0, height - 1)
    return Field(sx, sy, torch.full_like(sx, int(LARGEST)))


def places(height: int, width: int, stride: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixel (x, y) of each patch's centre, ``[1,w]`` and ``[h,1]``."""
    x = torch.arange(0, width, stride, device=device)[None]
    return x, torch.arange(0, height, stride, device=device)[:, None]


def stacked(arrays: Sequence[NDArray[Any]], device: torch.device) -> Tensor:
    """Arrays of several frames as one tensor ``[B,...]``."""
    return torch.from_numpy(np.stack(arrays)).to(device)


class Packs(NamedTuple):
    """Guides ``[B,H+4,W+4,channels]`` of key frames and frames, with (height, width, stride)."""

    source: Tensor
    target: Tensor
    size: tuple[int, int, int]

    def cost(self, x: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
        """What matches cost, ``[B,h,w]``; -1 where none is wanted or it lies outside."""
        height, width, stride = self.size
        inside = wanted & (x >= 0) & (y >= 0) & (x < width) & (y < height)
        result = torch.full_like(x, -1)
        frame, j, i = inside.nonzero(as_tuple=True)
        costs = []
        for first in range(0, len(frame), CHUNK):
            part = tuple(index[first : first + CHUNK] for index in (frame, j, i))
            b, row, column = part
            here = patches(self.source, b, y[part], x[part])
            there = patches(self.target, b, row * stride, column * stride)
            costs.append((here - there).square().sum((1, 2), dtype=torch.int32))
        if costs:
            result[inside] = torch.cat(costs)
        return result


def patches(packs: Tensor, frame: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The 5x5 patches at ``y, x`` of frames, a row in one piece, as whole numbers."""
    _, height, width, channels = packs.shape
    first = ((frame * height + y) * width + x) * channels
    rows = torch.arange(SIDE, device=x.device)[:, None] * (width * channels)
    inner = torch.arange(SIDE * channels, device=x.device)
    return packs.reshape(-1)[first[:, None, None] + rows + inner].int()


def sweep(pair: Packs, field: Field, plan: Plan, seeds: Tensor, radii: Sequence[int]) -> Field:
    """One pass over all patches of all frames at once (see `kernels.sweep`), by the first frame's
    plan with the seeds ``[B]`` of all."""
    old, open_ = field, field.cost > plan.hard
    for x, y in neighbours(old, plan):
        field = better(pair, field, x, y, open_)
    for candidate, radius in enumerate(radii, start=2):
        noise = randoms(seeds, candidate, field)
        across = ((noise & 0xFFFF) * (2 * radius + 1) >> 16).int()
        down = ((noise >> 16) * (2 * radius + 1) >> 16).int()
        field = better(pair, field, field.x + across - radius, field.y + down - radius, open_)
    return field


def neighbours(field: Field, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Where the matches of the two neighbours behind each patch point it to; outside the source
    where there is no neighbour."""
    away = back(plan)
    step = away * plan.stride
    yield behind(field.x, away, 2) + step, behind(field.y, away, 2)
    yield behind(field.x, away, 1), behind(field.y, away, 1) + step


def back(plan: Plan) -> int:
    """How many places behind a patch the neighbours are that it asks."""
    return plan.reach * (1 - 2 * (plan.seed % 2))


def behind(values: Tensor, away: int, axis: int) -> Tensor:
    """The values ``away`` places before along an axis."""
    count = values.shape[axis]
    place = torch.arange(count, device=values.device) - away
    exists = ((place >= 0) & (place < count)).view([-1 if a == axis else 1 for a in range(3)])
    return torch.where(exists, values.index_select(axis, place.clamp(0, count - 1)), NOWHERE)


def better(pair: Packs, field: Field, x: Tensor, y: Tensor, wanted: Tensor) -> Field:
    """The matches, replaced by ``x, y`` where that is cheaper."""
    cost = pair.cost(x, y, wanted)
    won = (cost >= 0) & (cost < field.cost)
    return Field(*(torch.where(won, a, b) for a, b in zip((x, y, cost), field, strict=True)))


def randoms(seeds: Tensor, candidate: int, field: Field) -> Tensor:
    """A random number of 32 bit for each patch, ``[B,h,w]``."""
    _, rows, columns = field.x.shape
    device = field.x.device
    key = scramble(seeds[:, None, None] * 40503 + torch.arange(rows, device=device)[:, None])
    return scramble(key + 32 * torch.arange(columns, device=device) + candidate)


def scramble(state: Tensor) -> Tensor:
    """`kernels.scramble` on whole numbers of 64 bit, of which the lower 32 count."""
    mask = 0xFFFFFFFF
    state = (state + 0x9E3779B9) & mask
    state = ((state ^ (state >> 16)) * 0x7FEB352D) & mask
    state = ((state ^ (state >> 15)) * 0x846CA68B) & mask
    return state ^ (state >> 16)


def vote(pictures: Tensor, matches: Tensor) -> Tensor:
    """The sum ``[B,H,W,C]`` of all patches over each pixel (see `votes.vote`).

    Args:
        pictures: ``[B,H+4,W+4,C]`` of the sources.
        matches: ``[B,H,W,2]``.
    """
    if fused(pictures.device):
        from rerender.propagation.patches import triton_pictures

        sx, sy = (part.contiguous() for part in matches.unbind(-1))
        return triton_pictures.vote(pictures.contiguous(), sx, sy, SIDE)
    count, rows, pitch, channels = pictures.shape
    frame = torch.arange(count, device=pictures.device)[:, None, None]
    sums = torch.zeros_like(pictures)
    x, y = matches.unbind(-1)
    _, height, width = x.shape
    first = ((frame * rows + y) * pitch + x).reshape(-1)
    pixels = pictures.reshape(-1, channels)
    # A patch that comes earlier in the image covers a pixel by a later part of itself.
    for dy in reversed(range(SIDE)):
        for dx in reversed(range(SIDE)):
            part = pixels.index_select(0, first + (dy * pitch + dx))
            part = part.view(count, height, width, channels)
            sums[:, dy : dy + height, dx : dx + width] += part
    return sums[:, 2:-2, 2:-2]
