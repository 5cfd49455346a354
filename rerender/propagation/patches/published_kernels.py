"""The published patch search in compiled loops: unguided start, uniformity, exhaustive sweeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rerender.compiled import compiled
from rerender.propagation.patches.kernels import Costs, Flat, Matches, scramble
from rerender.propagation.patches.simd import CHANNELS, SIDE, distance

Uses = NDArray[np.int32]
"""``[H+4,W+4]``: how many matched patches cover each source pixel; the border collects overlap."""


class Level(NamedTuple):
    """What a sweep over one pyramid level needs to know besides its arrays.

    Attributes:
        width: in pixels.
        uniformity: cost, in packed units, of a source patch that is used as often as the mean one.
        seed: of the random numbers; even seeds run down the image, odd seeds up.
    """

    width: int
    uniformity: float
    seed: int


@compiled
def guess(seed: int, matches: Matches) -> None:
    """A random match for every pixel."""
    height, width, _ = matches.shape
    for y in range(height):
        noise = scramble(np.uint32(seed * 40503 + y))
        for x in range(width):
            noise = scramble(noise)
            matches[y, x, 0] = np.int64(noise & np.uint32(0xFFFF)) % width
            matches[y, x, 1] = np.int64(noise >> np.uint32(16)) % height


@compiled
def account(source: Flat, target: Flat, matches: Matches, costs: Costs, uses: Uses) -> None:
    """Cost of every match, and how often every source pixel is used."""
    height, width, _ = matches.shape
    pitch = (width + 4) * CHANNELS
    uses[:] = 0
    for y in range(height):
        for x in range(width):
            sx, sy = np.int64(matches[y, x, 0]), np.int64(matches[y, x, 1])
            here, there = sy * pitch + sx * CHANNELS, y * pitch + x * CHANNELS
            costs[y, x] = distance(source, target, here, there, pitch)
            cover(uses, sx, sy, 1)


@compiled
def cover(uses: Uses, sx: int, sy: int, change: int) -> None:
    """Count a patch in, or out."""
    for row in range(SIDE):
        for column in range(SIDE):
            uses[sy + row, sx + column] += change


@compiled
def crowding(uses: Uses, sx: int, sy: int) -> float:
    """How often the pixels of a patch are used, against the mean of a one-to-one match."""
    total = 0
    for row in range(SIDE):
        for column in range(SIDE):
            total += uses[sy + row, sx + column]
    # Source and target have one size, so a pixel is covered by 25 patches on the mean.
    return total / (SIDE * SIDE) / (SIDE * SIDE)


@compiled
def search(
    source: Flat, target: Flat, level: Level, matches: Matches, costs: Costs, uses: Uses
) -> None:
    """One pass: the two neighbours behind, then random pixels at radii halving down to 1."""
    height, width, _ = matches.shape
    pitch = (width + 4) * CHANNELS
    way = 1 - 2 * (level.seed % 2)
    for yy in range(height):
        y = yy if way > 0 else height - 1 - yy
        noise = scramble(np.uint32(level.seed * 40503 + y))
        for xx in range(width):
            x = xx if way > 0 else width - 1 - xx
            there = y * pitch + x * CHANNELS
            bx, by = np.int64(matches[y, x, 0]), np.int64(matches[y, x, 1])
            best = costs[y, x] + level.uniformity * crowding(uses, bx, by)
            radius, neighbour = np.int64(max(height, width)), 0
            while radius >= 1:
                if neighbour < 2:
                    py, px = (y, x - way) if neighbour == 0 else (y - way, x)
                    neighbour += 1
                    if py < 0 or py >= height or px < 0 or px >= width:
                        continue
                    sx = np.int64(matches[py, px, 0]) + x - px
                    sy = np.int64(matches[py, px, 1]) + y - py
                else:
                    noise = scramble(noise)
                    across = np.int64(noise & np.uint32(0xFFFF)) % (2 * radius + 1)
                    down = np.int64(noise >> np.uint32(16)) % (2 * radius + 1)
                    sx, sy = bx + across - radius, by + down - radius
                    radius //= 2
                if sx < 0 or sy < 0 or sx >= width or sy >= height or (sx == bx and sy == by):
                    continue
                penalty = level.uniformity * crowding(uses, sx, sy)
                limit = np.int64(np.ceil(best - penalty))
                if limit <= 0:
                    continue
                cost = distance(source, target, sy * pitch + sx * CHANNELS, there, pitch)
                if cost + penalty < best:
                    cover(uses, bx, by, -1)
                    cover(uses, sx, sy, 1)
                    best, bx, by = cost + penalty, sx, sy
                    costs[y, x], matches[y, x, 0], matches[y, x, 1] = cost, sx, sy
