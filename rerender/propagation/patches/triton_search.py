"""The search of patches as Triton kernels, where `batched` runs on a GPU.

A pass over all patches is one launch: what a patch finds stays in registers until its last
candidate. The functions in torch of the same names in `batched` are the reference, whose numbers
these give.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

ROWS, COLUMNS = 8, 16
"""Patches of one program, down and across: they share most of what they read."""

Found = tuple[Tensor, Tensor, Tensor]
"""x, y and cost of matches, ``[B,h,w]`` whole numbers of 32 bit."""

PLAIN = ["rows", "columns", "height", "width", "stride", "hard", "easy", "back", "turn", "randoms"]
"""Numbers that take any value in one compiled kernel: else there is one for each kind of size."""

# Triton reads the source of a kernel: parameters have no Python types, but for the constants.


@triton.jit  # type: ignore[untyped-decorator]
def distance(  # type: ignore[no-untyped-def]
    source, target, here, there, pitch, wanted, channels: tl.constexpr, side: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Squared differences of ``block`` pairs of patches, summed; 0 where none is wanted."""
    channel = tl.arange(0, channels)[None, :]
    total = tl.zeros([block, channels], tl.int32)
    for dy in range(side):
        for dx in tl.static_range(side):
            shift = (dy * pitch + dx) * channels + channel
            a = tl.load(source + here[:, None] + shift, wanted[:, None], other=0).to(tl.int32)
            b = tl.load(target + there[:, None] + shift, wanted[:, None], other=0).to(tl.int32)
            total += (a - b) * (a - b)
    return tl.sum(total, 1)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def scramble(state):  # type: ignore[no-untyped-def]
    """`kernels.scramble` on whole numbers of 64 bit, of which the lower 32 count."""
    state = (state + 0x9E3779B9) & 0xFFFFFFFF
    state = ((state ^ (state >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    state = ((state ^ (state >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return state ^ (state >> 16)


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator]
def weighing(  # type: ignore[no-untyped-def]
    source, target, x, y, cost, new_cost, rows, columns, height, width, stride, hard,
    channels: tl.constexpr, side: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """What matches cost whose cost is above ``hard``; the others keep theirs."""
    number = tl.arange(0, down * across)
    row, column = tl.program_id(1) * down + number // across, tl.program_id(0) * across
    column += number % across
    lane, pitch = tl.program_id(2).to(tl.int64), width + side - 1
    exists = (row < rows) & (column < columns)
    place = lane * rows * columns + row * columns + column
    old = tl.load(cost + place, exists, other=0)
    open_ = exists & (old > hard)
    result = old
    if tl.max(open_.to(tl.int32), 0) > 0:
        first = lane * (height + side - 1) * pitch * channels
        sx, sy = tl.load(x + place, open_, other=0), tl.load(y + place, open_, other=0)
        here = (sy * pitch + sx) * channels
        there = (row * stride * pitch + column * stride) * channels
        found = distance(
            source + first, target + first, here, there, pitch, open_, channels, side,
            down * across,
        )  # fmt: skip
        result = tl.where(open_, found, old)
    tl.store(new_cost + place, result, exists)


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator]
def sweeping(  # type: ignore[no-untyped-def]
    source, target, x, y, cost, seeds, radii, new_x, new_y, new_cost, rows, columns, height, width,
    stride, hard, back, turn, randoms,
    channels: tl.constexpr, side: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """One pass over all matches: the neighbours ``back`` places behind, then ``randoms`` random
    candidates within ``radii``."""
    number = tl.arange(0, down * across)
    row, column = tl.program_id(1) * down + number // across, tl.program_id(0) * across
    column += number % across
    lane, pitch = tl.program_id(2).to(tl.int64), width + side - 1
    exists = (row < rows) & (column < columns)
    place = lane * rows * columns + row * columns + column
    bx = tl.load(x + place, exists, other=0)
    by = tl.load(y + place, exists, other=0)
    best = tl.load(cost + place, exists, other=0)
    open_ = exists & (best > hard)
    if tl.max(open_.to(tl.int32), 0) > 0:
        first = lane * (height + side - 1) * pitch * channels
        source += first
        target += first
        there = (row * stride * pitch + column * stride) * channels
        for candidate in tl.static_range(2):
            if candidate == 0:
                known = open_ & (column - back >= 0) & (column - back < columns)
                behind, sideways, downwards = place - back, back * stride, 0
            else:
                known = open_ & (row - back >= 0) & (row - back < rows)
                behind, sideways, downwards = place - back * columns, 0, back * stride
            sx = tl.load(x + behind, known, other=-1) + sideways
            sy = tl.load(y + behind, known, other=-1) + downwards
            inside = known & (sx >= 0) & (sy >= 0) & (sx < width) & (sy < height)
            here = (sy * pitch + sx) * channels
            found = distance(
                source, target, here, there, pitch, inside, channels, side, down * across
            )
            won = inside & (found < best)
            bx, by = tl.where(won, sx, bx), tl.where(won, sy, by)
            best = tl.where(won, found, best)
        seed = tl.load(seeds + lane) + turn
        key = scramble(seed * 40503 + row.to(tl.int64))
        for number_ in range(randoms):
            radius = tl.load(radii + number_).to(tl.int64)
            noise = scramble(key + (32 * column + number_ + 2).to(tl.int64))
            aside = ((noise & 0xFFFF) * (2 * radius + 1)) >> 16
            below = ((noise >> 16) * (2 * radius + 1)) >> 16
            sx, sy = bx + (aside - radius).to(tl.int32), by + (below - radius).to(tl.int32)
            inside = open_ & (sx >= 0) & (sy >= 0) & (sx < width) & (sy < height)
            here = (sy * pitch + sx) * channels
            found = distance(
                source, target, here, there, pitch, inside, channels, side, down * across
            )
            won = inside & (found < best)
            bx, by = tl.where(won, sx, bx), tl.where(won, sy, by)
            best = tl.where(won, found, best)
    tl.store(new_x + place, bx, exists)
    tl.store(new_y + place, by, exists)
    tl.store(new_cost + place, best, exists)


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator]
def spreading(  # type: ignore[no-untyped-def]
    source, target, x, y, cost, new_x, new_y, new_cost, rows, columns, height, width, easy,
    channels: tl.constexpr, side: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """Matches of all pixels from those ``[rows,columns]`` of every second one."""
    number = tl.arange(0, down * across)
    row, column = tl.program_id(1) * down + number // across, tl.program_id(0) * across
    column += number % across
    lane, pitch = tl.program_id(2).to(tl.int64), width + side - 1
    exists = (row < height) & (column < width)
    j, i = row // 2, column // 2
    below, right = tl.minimum(j + 1, rows - 1), tl.minimum(i + 1, columns - 1)
    coarse = lane * rows * columns
    ax = tl.load(x + coarse + j * columns + i, exists, other=0) - 2 * i
    ay = tl.load(y + coarse + j * columns + i, exists, other=0) - 2 * j
    quiet = tl.load(cost + coarse + j * columns + i, exists, other=0) <= easy
    for corner in tl.static_range(1, 4):
        jj = below if corner // 2 == 1 else j
        ii = right if corner % 2 == 1 else i
        at = coarse + jj * columns + ii
        quiet = quiet & (tl.load(x + at, exists, other=0) - 2 * ii == ax)
        quiet = quiet & (tl.load(y + at, exists, other=0) - 2 * jj == ay)
        quiet = quiet & (tl.load(cost + at, exists, other=0) <= easy)
    loud = exists & (quiet == 0)
    bx = tl.minimum(tl.maximum(ax + column, 0), width - 1)
    by = tl.minimum(tl.maximum(ay + row, 0), height - 1)
    best = tl.zeros([down * across], tl.int32)
    if tl.max(loud.to(tl.int32), 0) > 0:
        first = lane * (height + side - 1) * pitch * channels
        source += first
        target += first
        there = (row * pitch + column) * channels
        here = (by * pitch + bx) * channels
        best = distance(source, target, here, there, pitch, loud, channels, side, down * across)
        for nearby in range(1, 4):
            jj = tl.minimum((row + nearby // 2) // 2, rows - 1)
            ii = tl.minimum((column + nearby % 2) // 2, columns - 1)
            at = coarse + jj * columns + ii
            sx = tl.load(x + at, loud, other=0) + column - 2 * ii
            sy = tl.load(y + at, loud, other=0) + row - 2 * jj
            sx = tl.minimum(tl.maximum(sx, 0), width - 1)
            sy = tl.minimum(tl.maximum(sy, 0), height - 1)
            here = (sy * pitch + sx) * channels
            # What a neighbour has found too is known already.
            other = loud & ((sx != bx) | (sy != by))
            found = distance(
                source, target, here, there, pitch, other, channels, side, down * across
            )
            won = other & (found < best)
            bx, by = tl.where(won, sx, bx), tl.where(won, sy, by)
            best = tl.where(won, found, best)
    place = lane * height * width + row * width + column
    tl.store(new_x + place, bx, exists)
    tl.store(new_y + place, by, exists)
    tl.store(new_cost + place, best, exists)


def tiles(rows: int, columns: int, lanes: int) -> tuple[int, int, int]:
    """How many programs there are along each axis."""
    return triton.cdiv(columns, COLUMNS), triton.cdiv(rows, ROWS), lanes


def weigh(
    packs: tuple[Tensor, Tensor], size: tuple[int, int, int], found: Found, hard: int, side: int
) -> Tensor:
    """What matches cost, ``[B,h,w]``, where that was above ``hard``.

    Args:
        packs: guides of sources and targets, ``[B,H+4,W+4,channels]`` bytes.
        size: (height, width, stride).
        found: the matches.
        hard: a cost.
        side: pixels along each side of a patch.
    """
    lanes, rows, columns = found[0].shape
    cost = torch.empty_like(found[2])
    # Triton launches on the current device, which need not be that of the tensors.
    with torch.cuda.device_of(cost):  # type: ignore[no-untyped-call]
        weighing[tiles(rows, columns, lanes)](
            *packs, *found, cost, rows, columns, *size, hard,
            channels=packs[0].shape[-1], side=side, down=ROWS, across=COLUMNS,
        )  # fmt: skip
    return cost


def sweep(
    packs: tuple[Tensor, Tensor], size: tuple[int, int, int], found: Found,
    seeds: Tensor, radii: Tensor, pass_: tuple[int, int, int], side: int,
) -> Found:  # fmt: skip
    """One pass over the matches, see `weigh`.

    Args:
        packs, size, found, side: as of `weigh`.
        seeds: ``[B]`` of the round, whole numbers of 64 bit.
        radii: ``[R]`` of the random candidates, whole numbers of 32 bit.
        pass_: only matches that cost more are looked at; places to the neighbours that are asked,
            positive where these are above and at the left; and the number of the pass.
    """
    lanes, rows, columns = found[0].shape
    x, y, cost = (torch.empty_like(part) for part in found)
    with torch.cuda.device_of(cost):  # type: ignore[no-untyped-call]
        sweeping[tiles(rows, columns, lanes)](
            *packs, *found, seeds, radii, x, y, cost, rows, columns, *size, *pass_, len(radii),
            channels=packs[0].shape[-1], side=side, down=ROWS, across=COLUMNS,
        )  # fmt: skip
    return x, y, cost


def spread(
    packs: tuple[Tensor, Tensor], size: tuple[int, int, int], found: Found, easy: int, side: int
) -> Found:
    """Matches of all pixels from those at stride 2; where four of them agree and none costs more
    than ``easy`` they are not weighed and cost 0. Arguments as of `weigh`."""
    lanes, rows, columns = found[0].shape
    height, width, _ = size
    x, y, cost = (part.new_empty(lanes, height, width) for part in found)
    with torch.cuda.device_of(cost):  # type: ignore[no-untyped-call]
        spreading[tiles(height, width, lanes)](
            *packs, *found, x, y, cost, rows, columns, height, width, easy,
            channels=packs[0].shape[-1], side=side, down=ROWS, across=COLUMNS,
        )  # fmt: skip
    return x, y, cost
