"""PatchMatch's search in compiled loops: start, weigh, sweep. Deterministic: keyed random numbers.

Patches are 5x5. Their centres lie on a grid of every ``stride``-th pixel: at stride 2 a search
costs a quarter, and what it finds is spread to every pixel. A match is the pixel of the source on
which a patch's centre lies. Guides are packed with a border of two pixels (see `guides`), in which
a patch's corner has the coordinates that its centre has in the image; here they are flat, because
indexing them in three dimensions costs more than the comparison itself. `batched` does the same
on a GPU, number for number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rerender.compiled import compiled
from rerender.propagation.patches.simd import BARE, CHANNELS, bare_distance, distance

Flat = NDArray[np.uint8]
"""Packed guides ``[(H+4)*(W+4)*channels]``."""

Matches = NDArray[np.int16]
"""``[h,w,2]``: the source pixel (x, y) of every grid point."""

Costs = NDArray[np.int32]
"""``[h,w]``: the sum of squared differences of each match, in packed units."""

LARGEST = np.int32(2**31 - 1)


class Plan(NamedTuple):
    """What a sweep needs to know besides its arrays.

    Attributes:
        width: of the images, in pixels.
        stride: pixels between grid points.
        hard: only matches that cost more are looked at.
        seed: of the random numbers; even seeds run down the image, odd seeds up.
        reach: grid points from a patch to the two neighbours that it asks.
        channels: bytes of a pixel of the guides.
    """

    width: int
    stride: int
    hard: int
    seed: int
    reach: int = 1
    channels: int = CHANNELS


@compiled
def start(offset: NDArray[np.float32], stride: int, matches: Matches) -> None:
    """Matches where flow ``[H,W,2]`` points to, rounded to whole pixels."""
    height, width, _ = offset.shape
    for j in range(matches.shape[0]):
        for i in range(matches.shape[1]):
            x, y = i * stride, j * stride
            matches[j, i, 0] = min(max(int(np.rint(x + offset[y, x, 0])), 0), width - 1)
            matches[j, i, 1] = min(max(int(np.rint(y + offset[y, x, 1])), 0), height - 1)


@compiled
def weigh(source: Flat, target: Flat, plan: Plan, matches: Matches, costs: Costs) -> None:
    """What the matches cost whose costs are above ``plan.hard``; the others keep theirs."""
    pitch = (plan.width + 4) * plan.channels
    for j in range(costs.shape[0]):
        for i in range(costs.shape[1]):
            if costs[j, i] > plan.hard:
                here = (
                    np.int64(matches[j, i, 1]) * pitch + np.int64(matches[j, i, 0]) * plan.channels
                )
                there = j * plan.stride * pitch + i * plan.stride * plan.channels
                costs[j, i] = compare(source, target, here, there, pitch, plan.channels)


@compiled
def compare(source: Flat, target: Flat, here: int, there: int, pitch: int, channels: int) -> int:
    """The cost of one match of whichever guides."""
    if channels == BARE:
        return bare_distance(source, target, here, there, pitch)
    return distance(source, target, here, there, pitch)


@compiled
def spread(
    source: Flat,
    target: Flat,
    plan: Plan,
    found: Matches,
    spent: Costs,
    matches: Matches,
    costs: Costs,
) -> None:
    """Matches for every pixel from those ``found`` at stride 2, which cost ``spent``.

    Four neighbouring patches span a cell of 2x2 pixels. Where they agree and none costs more than
    ``plan.hard``, the pixels follow them and nothing is weighed: their cost is 0. Elsewhere each
    takes the cheapest of what the one, two or four patches nearest to it found.
    """
    height, width, _ = matches.shape
    pitch = (width + 4) * plan.channels
    rows, columns = spent.shape
    for j in range(rows):
        below = min(j + 1, rows - 1)
        for i in range(columns):
            right = min(i + 1, columns - 1)
            quiet = agree(found, spent, plan.hard, j, i, below, right)
            for y in range(2 * j, min(2 * j + 2, height)):
                last_j = below if y > 2 * j else j
                for x in range(2 * i, min(2 * i + 2, width)):
                    last_i = right if x > 2 * i else i
                    there = y * pitch + x * plan.channels
                    bx = min(max(np.int64(found[j, i, 0]) + x - 2 * i, 0), width - 1)
                    by = min(max(np.int64(found[j, i, 1]) + y - 2 * j, 0), height - 1)
                    best = 0
                    if not quiet:
                        here = by * pitch + bx * plan.channels
                        best = compare(source, target, here, there, pitch, plan.channels)
                        lx, ly = bx, by
                        for n in range(j, last_j + 1):
                            for m in range(i, last_i + 1):
                                sx = np.int64(found[n, m, 0]) + x - 2 * m
                                sy = np.int64(found[n, m, 1]) + y - 2 * n
                                sx = min(max(sx, 0), width - 1)
                                sy = min(max(sy, 0), height - 1)
                                if (sx == bx and sy == by) or (sx == lx and sy == ly):
                                    continue
                                lx, ly = sx, sy
                                here = sy * pitch + sx * plan.channels
                                cost = compare(source, target, here, there, pitch, plan.channels)
                                if cost < best:
                                    best, bx, by = cost, sx, sy
                    costs[y, x], matches[y, x, 0], matches[y, x, 1] = best, bx, by


@compiled
def agree(
    found: Matches, spent: Costs, easy: int, top: int, left: int, bottom: int, right: int
) -> bool:
    """Whether four patches are easy and moved alike."""
    across, down = found[top, left, 0] - 2 * left, found[top, left, 1] - 2 * top
    for j in (top, bottom):
        for i in (left, right):
            if found[j, i, 0] - 2 * i != across or found[j, i, 1] - 2 * j != down:
                return False
            if spent[j, i] > easy:
                return False
    return True


@compiled
def sweep(
    source: Flat,
    target: Flat,
    plan: Plan,
    radii: NDArray[np.int32],
    known: Matches,
    matches: Matches,
    costs: Costs,
) -> None:
    """One pass over the matches: each tries what the two neighbours behind it found, then a random
    pixel within each of ``radii`` about the best so far.

    Neighbours are read from ``known``: the matches themselves, so that a good one runs along in one
    pass, or a copy of them, so that the order of the patches does not matter.
    """
    pitch = (plan.width + 4) * plan.channels
    width, height = plan.width, len(source) // pitch - 4
    rows, columns = costs.shape
    way = 1 - 2 * (plan.seed % 2)
    back = way * plan.reach
    for jj in range(rows):
        j = jj if way > 0 else rows - 1 - jj
        key = scramble(np.uint32(plan.seed * 40503 + j))
        for ii in range(columns):
            i = ii if way > 0 else columns - 1 - ii
            best = costs[j, i]
            if best <= plan.hard:
                continue
            bx, by = np.int64(matches[j, i, 0]), np.int64(matches[j, i, 1])
            lx, ly = bx, by
            there = j * plan.stride * pitch + i * plan.stride * plan.channels
            for candidate in range(2 + len(radii)):
                if candidate < 2:
                    pj, pi = (j, i - back) if candidate == 0 else (j - back, i)
                    if pj < 0 or pj >= rows or pi < 0 or pi >= columns:
                        continue
                    sx = np.int64(known[pj, pi, 0]) + (i - pi) * plan.stride
                    sy = np.int64(known[pj, pi, 1]) + (j - pj) * plan.stride
                else:
                    radius = np.int64(radii[candidate - 2])
                    noise = scramble(np.uint32(key + np.uint32(32 * i + candidate)))
                    across = np.int64(noise & np.uint32(0xFFFF)) * (2 * radius + 1) >> 16
                    down = np.int64(noise >> np.uint32(16)) * (2 * radius + 1) >> 16
                    sx, sy = bx + across - radius, by + down - radius
                if sx < 0 or sy < 0 or sx >= width or sy >= height:
                    continue
                # Neighbours often know the same, or what is known already.
                if (sx == bx and sy == by) or (sx == lx and sy == ly):
                    continue
                lx, ly = sx, sy
                here = sy * pitch + sx * plan.channels
                cost = compare(source, target, here, there, pitch, plan.channels)
                if cost < best:
                    best, bx, by = cost, sx, sy
            costs[j, i], matches[j, i, 0], matches[j, i, 1] = best, bx, by


@compiled
def scramble(state: int) -> int:
    """A random number of 32 bit for each state: the mixer "lowbias32" of C. Wellons."""
    state = np.uint32(state + np.uint32(0x9E3779B9))
    state = np.uint32(np.uint32(state ^ (state >> np.uint32(16))) * np.uint32(0x7FEB352D))
    state = np.uint32(np.uint32(state ^ (state >> np.uint32(15))) * np.uint32(0x846CA68B))
    state = np.uint32(state ^ (state >> np.uint32(16)))
    return state  # noqa: RET504 (typed here, untyped as an expression)
