"""Votes and the warp as Triton kernels, where `batched` and `tensors` run on a GPU.

In torch a patch's every pixel is a pass over all pictures; here a pixel is added up in registers.
Votes are added in the order of `batched.vote`; the warp rounds differently from `tensors.warped`.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from rerender.propagation.patches.triton_search import COLUMNS, ROWS, tiles

PLAIN = ["height", "width"]
"""Numbers that take any value in one compiled kernel: else there is one for each kind of size."""


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator]
def voting(  # type: ignore[no-untyped-def]
    pictures, x, y, sums, height, width,
    channels: tl.constexpr, side: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """The sum of all patches over each pixel, first row first."""
    number = tl.arange(0, down * across)
    row, column = tl.program_id(1) * down + number // across, tl.program_id(0) * across
    column += number % across
    lane, pitch = tl.program_id(2).to(tl.int64), width + side - 1
    exists = (row < height) & (column < width)
    channel = tl.arange(0, channels)[None, :]
    pictures += lane * (height + side - 1) * pitch * channels
    frame = lane * height * width
    total = tl.zeros([down * across, channels], tl.float32)
    for up in range(side):
        for left in tl.static_range(side):
            j, i = row + up - side // 2, column + left - side // 2
            covers = exists & (j >= 0) & (i >= 0) & (j < height) & (i < width)
            place = frame + j * width + i
            sx = tl.load(x + place, covers, other=0) + (side - 1 - left)
            sy = tl.load(y + place, covers, other=0) + (side - 1 - up)
            start = (sy * pitch + sx) * channels
            total += tl.load(pictures + start[:, None] + channel, covers[:, None], other=0.0)
    out = (frame + row * width + column) * channels
    tl.store(sums + out[:, None] + channel, total, exists[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def cubic(part, distance_from: tl.constexpr):  # type: ignore[no-untyped-def]
    """Keys' weight, slope -0.75, of the pixel ``distance_from`` after the one before a place."""
    if distance_from == -1:
        s = part + 1
        weight = ((-0.75 * s + 3.75) * s - 6.0) * s + 3.0
    elif distance_from == 0:
        weight = (1.25 * part - 2.25) * part * part + 1
    elif distance_from == 1:
        s = 1 - part
        weight = (1.25 * s - 2.25) * s * s + 1
    else:
        s = 2 - part
        weight = ((-0.75 * s + 3.75) * s - 6.0) * s + 3.0
    return weight


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator]
def warping(  # type: ignore[no-untyped-def]
    pictures, offset, out, height, width,
    channels: tl.constexpr, down: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """Pictures ``[B,H+4,W+4,channels]`` moved by cubic convolution; nearest pixels outside."""
    number = tl.arange(0, down * across)
    row, column = tl.program_id(1) * down + number // across, tl.program_id(0) * across
    column += number % across
    lane, pitch = tl.program_id(2).to(tl.int64), width + 4
    exists = (row < height) & (column < width)
    channel = tl.arange(0, channels)[None, :]
    pictures += lane * (height + 4) * pitch * channels
    place = lane * height * width + row * width + column
    # One pixel outside, all that the kernel sees is the nearest pixel.
    u = column + tl.load(offset + 2 * place, exists, other=0.0)
    v = row + tl.load(offset + 2 * place + 1, exists, other=0.0)
    u = tl.minimum(tl.maximum(u, -1.0), width * 1.0)
    v = tl.minimum(tl.maximum(v, -1.0), height * 1.0)
    i = tl.minimum((u + 1).to(tl.int32), width) - 1
    j = tl.minimum((v + 1).to(tl.int32), height) - 1
    right, below = u - i, v - j
    total = tl.zeros([down * across, channels], tl.float32)
    for dy in tl.static_range(-1, 3):
        line = tl.zeros([down * across, channels], tl.float32)
        for dx in tl.static_range(-1, 3):
            start = ((j + dy + 2) * pitch + i + dx + 2) * channels
            pixel = tl.load(pictures + start[:, None] + channel, exists[:, None], other=0.0)
            line += pixel * cubic(right, dx)[:, None]
        total += line * cubic(below, dy)[:, None]
    tl.store(out + (place * channels)[:, None] + channel, total, exists[:, None])


def vote(pictures: Tensor, x: Tensor, y: Tensor, side: int) -> Tensor:
    """The sum ``[B,H,W,C]`` of all patches of ``pictures [B,H+4,W+4,C]`` over each pixel, given the
    matches ``[B,H,W]``."""
    lanes, height, width = x.shape
    channels = pictures.shape[-1]
    sums = pictures.new_empty(lanes, height, width, channels)
    with torch.cuda.device_of(sums):  # type: ignore[no-untyped-call]
        voting[tiles(height, width, lanes)](
            pictures, x, y, sums, height, width,
            channels=channels, side=side, down=ROWS, across=COLUMNS,
        )  # fmt: skip
    return sums


def warp(pictures: Tensor, offset: Tensor) -> Tensor:
    """``pictures [B,H+4,W+4,C]`` moved by ``offset [B,H,W,2]``, ``[B,H,W,C]``."""
    lanes, height, width, _ = offset.shape
    channels = pictures.shape[-1]
    moved = pictures.new_empty(lanes, height, width, channels)
    with torch.cuda.device_of(moved):  # type: ignore[no-untyped-call]
        warping[tiles(height, width, lanes)](
            pictures, offset, moved, height, width,
            channels=channels, down=ROWS, across=COLUMNS,
        )  # fmt: skip
    return moved
