"""The sweeps of the variational step as a Triton kernel, where `tensors` runs on a GPU.

Every pixel of one colour of the checkerboard is solved in one launch, in place: it reads only the
other colour. `tensors.relax` is the reference; sums round differently.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

BLOCK = 256
"""Pixels of a row that one program solves, of both colours."""


PLAIN = ["height", "width", "colour"]
"""Numbers that take any value in one compiled kernel: else there is one for each kind of size."""


# Triton reads the source of a kernel: its parameters have no Python types, but for the constants.
@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator,unused-ignore]
def relaxing(  # type: ignore[no-untyped-def]
    inverse, data, across, down, solved, height, width, colour, block: tl.constexpr
):
    """``s = J^-1 (data + sum of ties times neighbours)`` at the pixels of one colour."""
    y, lane = tl.program_id(1), tl.program_id(2).to(tl.int64)
    x = tl.program_id(0) * block + tl.arange(0, block // 2) * 2 + (y + colour) % 2
    row, exists, area = x * 0 + y, x < width, height * width
    place = y * width + x
    u, v = solved + lane * 2 * area + place, solved + (lane * 2 + 1) * area + place
    base = data + lane * 2 * area + place
    sum_u = tl.load(base, exists, other=0.0)
    sum_v = tl.load(base + area, exists, other=0.0)
    side = across + lane * height * (width + 1) + y * (width + 1) + x
    above = down + lane * (height + 1) * width + place
    tie = tl.load(side, exists, other=0.0)
    there = exists & (x > 0)
    sum_u += tie * tl.load(u - 1, there, other=0.0)
    sum_v += tie * tl.load(v - 1, there, other=0.0)
    tie = tl.load(side + 1, exists, other=0.0)
    there = exists & (x < width - 1)
    sum_u += tie * tl.load(u + 1, there, other=0.0)
    sum_v += tie * tl.load(v + 1, there, other=0.0)
    tie = tl.load(above, exists, other=0.0)
    there = exists & (row > 0)
    sum_u += tie * tl.load(u - width, there, other=0.0)
    sum_v += tie * tl.load(v - width, there, other=0.0)
    tie = tl.load(above + width, exists, other=0.0)
    there = exists & (row < height - 1)
    sum_u += tie * tl.load(u + width, there, other=0.0)
    sum_v += tie * tl.load(v + width, there, other=0.0)
    system = inverse + lane * 3 * area + place
    a = tl.load(system, exists, other=0.0)
    b = tl.load(system + area, exists, other=0.0)
    c = tl.load(system + 2 * area, exists, other=0.0)
    tl.store(u, a * sum_u + b * sum_v, exists)
    tl.store(v, b * sum_u + c * sum_v, exists)


def relax(
    inverse: Tensor, data: Tensor, across: Tensor, down: Tensor, offset: Tensor, sweeps: int
) -> Tensor:
    """See `tensors.relax`.

    Args:
        inverse: ``[B,3,H,W]`` of each pixel's symmetric 2x2 system: top left, beside, bottom right.
        data: ``[B,2,H,W]``.
        across: ties to the pixel at the left, ``[B,H,W+1]``.
        down: ties to the pixel above, ``[B,H+1,W]``.
        offset: ``[B,2,H,W]``.
        sweeps: how many.
    """
    lanes, _, height, width = offset.shape
    solved = offset.contiguous().clone()
    parts = [part.contiguous() for part in (inverse, data, across, down)]
    programs = (triton.cdiv(width, BLOCK), height, lanes)
    with torch.cuda.device_of(solved):  # type: ignore[no-untyped-call]
        for turn in range(2 * sweeps):
            relaxing[programs](*parts, solved, height, width, turn % 2, block=BLOCK)
    return solved
