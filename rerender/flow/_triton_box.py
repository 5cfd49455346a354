"""Means over boxes as a Triton kernel: one launch for each axis, without a border in memory."""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

BLOCK = 128
"""Pixels of a row that one program averages."""


PLAIN = ["height", "width", "reach"]
"""Numbers that take any value in one compiled kernel: else there is one for each kind of size."""


# Triton reads the source of a kernel: its parameters have no Python types, but for the constants.
@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator,unused-ignore]
def averaging(  # type: ignore[no-untyped-def]
    planes, out, height, width, reach,
    across: tl.constexpr, reflect: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Means along one axis of lines that are reflected at their ends, or end there."""
    x = tl.program_id(0) * block + tl.arange(0, block)
    y, exists = x * 0 + tl.program_id(1), x < width
    first = tl.program_id(2).to(tl.int64) * height * width
    if across:
        place, last = x, width - 1
    else:
        place, last = y, height - 1
    total = tl.zeros([block], tl.float32)
    for shift in range(-reach, reach + 1):
        there = place + shift
        known = exists & (there >= 0) & (there <= last)
        if reflect:
            there = last - tl.abs(last - tl.abs(there))
            known = exists
        at = y * width + there if across else there * width + x
        total += tl.load(planes + first + at, known, other=0.0)
    count = tl.minimum(place + reach, last) - tl.maximum(place - reach, 0) + 1
    if reflect:
        count = x * 0 + 2 * reach + 1
    tl.store(out + first + y * width + x, total / count.to(tl.float32), exists)


def box(planes: Tensor, side: int, reflect: bool) -> Tensor:
    """Means of ``[B,C,H,W]`` over boxes of odd ``side``, of images that are reflected at their
    border, which must be longer than half of a box, or end there."""
    lanes, channels, height, width = planes.shape
    programs = (triton.cdiv(width, BLOCK), height, lanes * channels)
    mean = planes.contiguous()
    with torch.cuda.device_of(planes):  # type: ignore[no-untyped-call]
        for across in (True, False):
            line, mean = mean, torch.empty_like(mean)
            averaging[programs](
                line, mean, height, width, side // 2, across=across, reflect=reflect, block=BLOCK
            )
    return mean
