"""A level of dense inverse search as Triton kernels, where `dis_torch` runs on a GPU.

Warping, differences and their products with gradients are one launch, the step of all patches two.
`dis_torch` in torch is the reference; sums round differently.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

from rerender.flow._triton_box import BLOCK, averaging, box

PLAIN = ["height", "width", "reach"]
"""Numbers that take any value in one compiled kernel: else there is one for each kind of size."""

# Triton reads the source of a kernel: its parameters have no Python types, but for the constants.


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def slope(image, x, y, height, width, exists):  # type: ignore[no-untyped-def]
    """Central differences along x and y, with repeated borders."""
    right = tl.load(image + y * width + tl.minimum(x + 1, width - 1), exists, other=0.0)
    left = tl.load(image + y * width + tl.maximum(x - 1, 0), exists, other=0.0)
    below = tl.load(image + tl.minimum(y + 1, height - 1) * width + x, exists, other=0.0)
    above = tl.load(image + tl.maximum(y - 1, 0) * width + x, exists, other=0.0)
    return (right - left) / 2, (below - above) / 2


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator,unused-ignore]
def products(target, out, height, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of gradients (xx, xy, yy), summed over colours."""
    x = tl.program_id(0) * block + tl.arange(0, block)
    y, exists = x * 0 + tl.program_id(1), x < width
    lane, area = tl.program_id(2).to(tl.int64), height * width
    xx = tl.zeros([block], tl.float32)
    xy = tl.zeros([block], tl.float32)
    yy = tl.zeros([block], tl.float32)
    for colour in tl.static_range(3):
        image = target + (lane * 3 + colour) * area
        gx, gy = slope(image, x, y, height, width, exists)
        xx += gx * gx
        xy += gx * gy
        yy += gy * gy
    place = out + lane * 3 * area + y * width + x
    tl.store(place, xx, exists)
    tl.store(place + area, xy, exists)
    tl.store(place + 2 * area, yy, exists)


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator,unused-ignore]
def differing(  # type: ignore[no-untyped-def]
    target, source, offset, out, height, width, absolute: tl.constexpr, block: tl.constexpr
):
    """Differences of the moved source and the target: their products with gradients (xt, yt), or
    their absolute values, summed over colours."""
    x = tl.program_id(0) * block + tl.arange(0, block)
    y, exists = x * 0 + tl.program_id(1), x < width
    lane, area = tl.program_id(2).to(tl.int64), height * width
    place = y * width + x
    u = x + tl.load(offset + lane * 2 * area + place, exists, other=0.0)
    v = y + tl.load(offset + (lane * 2 + 1) * area + place, exists, other=0.0)
    u = tl.minimum(tl.maximum(u, 0.0), width - 1.0)
    v = tl.minimum(tl.maximum(v, 0.0), height - 1.0)
    i, j = u.to(tl.int32), v.to(tl.int32)
    right, below = u - i, v - j
    next_i, next_j = tl.minimum(i + 1, width - 1), tl.minimum(j + 1, height - 1)
    xt = tl.zeros([block], tl.float32)
    yt = tl.zeros([block], tl.float32)
    for colour in tl.static_range(3):
        image = target + (lane * 3 + colour) * area
        moved = source + (lane * 3 + colour) * area
        a = tl.load(moved + j * width + i, exists, other=0.0)
        b = tl.load(moved + j * width + next_i, exists, other=0.0)
        c = tl.load(moved + next_j * width + i, exists, other=0.0)
        d = tl.load(moved + next_j * width + next_i, exists, other=0.0)
        top, bottom = a + right * (b - a), c + right * (d - c)
        error = top + below * (bottom - top) - tl.load(image + place, exists, other=0.0)
        if absolute:
            xt += tl.abs(error)
        else:
            gx, gy = slope(image, x, y, height, width, exists)
            xt += gx * error
            yt += gy * error
    if absolute:
        tl.store(out + lane * area + place, xt, exists)
    else:
        tl.store(out + lane * 2 * area + place, xt, exists)
        tl.store(out + (lane * 2 + 1) * area + place, yt, exists)


@triton.jit(do_not_specialize=PLAIN)  # type: ignore[untyped-decorator,unused-ignore]
def stepping(  # type: ignore[no-untyped-def]
    rows, systems, offset, height, width, reach, noise, block: tl.constexpr
):
    """The step of every patch, from the means (xt, yt) along its rows; changes the offsets."""
    x = tl.program_id(0) * block + tl.arange(0, block)
    y, exists = x * 0 + tl.program_id(1), x < width
    lane, area = tl.program_id(2).to(tl.int64), height * width
    xt = tl.zeros([block], tl.float32)
    yt = tl.zeros([block], tl.float32)
    for shift in range(-reach, reach + 1):
        there = y + shift
        known = exists & (there >= 0) & (there < height)
        at = rows + lane * 2 * area + there * width + x
        xt += tl.load(at, known, other=0.0)
        yt += tl.load(at + area, known, other=0.0)
    count = tl.minimum(y + reach, height - 1) - tl.maximum(y - reach, 0) + 1
    xt, yt = xt / count.to(tl.float32), yt / count.to(tl.float32)
    place = y * width + x
    system = systems + lane * 3 * area + place
    xx = tl.load(system, exists, other=1.0) + noise
    xy = tl.load(system + area, exists, other=0.0)
    yy = tl.load(system + 2 * area, exists, other=1.0) + noise
    scale = 1 / (xx * yy - xy * xy)
    du, dv = (yy * xt - xy * yt) * scale, (xx * yt - xy * xt) * scale
    du = tl.minimum(tl.maximum(du, -1.0), 1.0)
    dv = tl.minimum(tl.maximum(dv, -1.0), 1.0)
    u = offset + lane * 2 * area + place
    tl.store(u, tl.load(u, exists, other=0.0) - du, exists)
    tl.store(u + area, tl.load(u + area, exists, other=0.0) - dv, exists)


def descended(
    target: Tensor,
    source: Tensor,
    offset: Tensor,
    steps: int,
    window: int,
    noise: float,
    fit: float,
) -> Tensor:
    """The offsets ``[B,2,H,W]`` of one level after all steps, of images ``[B,3,H,W]``."""
    lanes, _, height, width = target.shape
    programs = (triton.cdiv(width, BLOCK), height, lanes)
    both = (triton.cdiv(width, BLOCK), height, 2 * lanes)
    target, source = target.contiguous(), source.contiguous()
    offset = offset.contiguous().clone()
    with torch.cuda.device_of(target):  # type: ignore[no-untyped-call]
        systems = target.new_empty(lanes, 3, height, width)
        products[programs](target, systems, height, width, block=BLOCK)
        systems = box(systems, window, False)
        sums, rows = torch.empty_like(offset), torch.empty_like(offset)
        images, size = (target, source, offset), (height, width)
        for _ in range(steps):
            differing[programs](*images, sums, *size, absolute=False, block=BLOCK)
            averaging[both](sums, rows, *size, window // 2, across=True, reflect=False, block=BLOCK)
            stepping[programs](rows, systems, offset, *size, window // 2, noise, block=BLOCK)
        error = target.new_empty(lanes, 1, height, width)
        differing[programs](*images, error, *size, absolute=True, block=BLOCK)
    trust = (fit + box(error, window, False)).pow(-2)
    weighted = box(torch.cat([offset * trust, trust], 1), window, False)
    return weighted[:, :2] / weighted[:, 2:]
