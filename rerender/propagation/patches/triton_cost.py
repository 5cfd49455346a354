"""The comparison of patches as one Triton kernel, where `batched` runs on a GPU.

Whole numbers, so its costs are those of `batched.Packs.cost` in torch, which is its reference.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

BLOCK = 64
"""Patches compared by one program."""


# Triton reads the source of a kernel: its parameters have no Python types, but for the constants.
@triton.jit  # type: ignore[untyped-decorator]
def compare(  # type: ignore[no-untyped-def]
    source, target, x, y, wanted, out, rows, columns, height, width, stride, count,
    channels: tl.constexpr, side: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Squared differences of ``block`` pairs of patches, summed; -1 where none is wanted."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    exists = place < count
    sx = tl.load(x + place, exists, other=-1)
    sy = tl.load(y + place, exists, other=-1)
    inside = tl.load(wanted + place, exists, other=0) != 0
    inside = inside & (sx >= 0) & (sy >= 0) & (sx < width) & (sy < height)
    pitch = width + side - 1
    first = place // (rows * columns) * (height + side - 1)
    here = ((first + sy) * pitch + sx) * channels
    row, column = place // columns % rows, place % columns
    there = ((first + row * stride) * pitch + column * stride) * channels
    channel = tl.arange(0, channels)[None, :]
    total = tl.zeros([block], tl.int32)
    for dy in range(side):
        for dx in range(side):
            shift = (dy * pitch + dx) * channels + channel
            a = tl.load(source + here[:, None] + shift, inside[:, None], other=0).to(tl.int32)
            b = tl.load(target + there[:, None] + shift, inside[:, None], other=0).to(tl.int32)
            total += tl.sum((a - b) * (a - b), 1)
    tl.store(out + place, tl.where(inside, total, -1).to(tl.int64), exists)


def cost(
    source: Tensor, target: Tensor, size: tuple[int, int, int], match: tuple[Tensor, Tensor],
    wanted: Tensor, side: int,
) -> Tensor:  # fmt: skip
    """What matches cost, ``[B,h,w]``; -1 where none is wanted or it lies outside.

    Args:
        source, target: guides ``[B,H+4,W+4,channels]``, bytes.
        size: (height, width, stride).
        match: x and y of the source pixel, ``[B,h,w]`` whole numbers of 64 bit.
        wanted: ``[B,h,w]`` bool.
        side: pixels along each side of a patch.
    """
    x, y = (part.contiguous() for part in match)
    _, rows, columns = x.shape
    out = torch.empty_like(x)
    packs = source.contiguous(), target.contiguous()
    asked = wanted.contiguous().view(torch.uint8)
    # Triton launches on the current device, which need not be that of the tensors.
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        compare[(triton.cdiv(x.numel(), BLOCK),)](
            *packs, x, y, asked, out, rows, columns, *size, x.numel(),
            channels=source.shape[-1], side=side, block=BLOCK,
        )  # fmt: skip
    return out
