"""GroupNorm of feature maps in channels_last, with SiLU where it follows, as Triton kernels.

torch's own on a GPU takes ``[B,C,h,w]`` in rows of channels alone: maps in channels_last are
turned before it and back after it, and its sums run on too few processors where B is small. Here
a group that fits into registers is one program's; of larger ones every channel's mean and sum of
squared deviations are found tile by tile and joined exactly (Chan et al. 1979), so that nothing
cancels.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

ROWS, CHANNELS = 64, 64
"""Pixels and channels of a tile."""
PROGRAMS = 512
"""About how many programs share the sums, if there are so many tiles."""
WHOLE = 1 << 15
"""The most values of a group, both sides filled up to powers of two, that one program holds."""


# Triton reads the source of a kernel: its parameters have no Python types, but for the constants.
@triton.jit  # type: ignore[untyped-decorator]
def moments(  # type: ignore[no-untyped-def]
    x, means, squares, pixels, channels, share, splits,
    rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Of each channel in a share of the pixels: its mean, and the sum of squared deviations."""
    sample, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.program_id(2) * block + tl.arange(0, block)
    first = split * share
    last = tl.minimum(first + share, pixels)
    base = x + sample * pixels * channels
    mean = tl.zeros([block], tl.float32)
    square = tl.zeros([block], tl.float32)
    count = 0.0
    for start in range(first, last, rows):
        pixel = start + tl.arange(0, rows)
        inside = (pixel < last)[:, None] & (channel < channels)[None, :]
        tile = tl.load(base + pixel[:, None] * channels + channel[None, :], inside, other=0.0)
        tile = tile.to(tl.float32)
        found = tl.minimum(last - start, rows).to(tl.float32)
        own = tl.sum(tile, 0) / found
        away = tl.where(inside, tile - own[None, :], 0.0)
        shift = own - mean
        square += tl.sum(away * away, 0) + shift * shift * (count * found / (count + found))
        mean += shift * (found / (count + found))
        count += found
    place = (sample * splits + split) * channels + channel
    tl.store(means + place, mean, channel < channels)
    tl.store(squares + place, square, channel < channels)


@triton.jit  # type: ignore[untyped-decorator]
def factors(  # type: ignore[no-untyped-def]
    means, squares, weight, bias, factor, offset, pixels, channels, share, splits, eps,
    width: tl.constexpr, parts: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """Of each channel of a group: what its values are multiplied by, and what is added."""
    sample, group = tl.program_id(0), tl.program_id(1)
    own = tl.arange(0, padded)
    channel = group * width + own
    split = tl.arange(0, parts)
    inside = (split < splits)[:, None] & (own < width)[None, :]
    count = tl.minimum(pixels - split * share, share).to(tl.float32)
    count = tl.where(split < splits, count, 0.0)[:, None]
    place = (sample * splits + split[:, None]) * channels + channel[None, :]
    mean = tl.load(means + place, inside, other=0.0)
    square = tl.load(squares + place, inside, other=0.0)
    total = pixels * width * 1.0
    middle = tl.sum(tl.sum(mean * count, 1), 0) / total
    away = tl.where(inside, mean - middle, 0.0)
    variance = tl.sum(tl.sum(square + away * away * count, 1), 0) / total
    scale = tl.load(weight + channel, own < width, other=0.0).to(tl.float32)
    scale = scale / tl.sqrt(variance + eps)
    shift = tl.load(bias + channel, own < width, other=0.0).to(tl.float32)
    tl.store(factor + sample * channels + channel, scale, own < width)
    tl.store(offset + sample * channels + channel, shift - middle * scale, own < width)


@triton.jit  # type: ignore[untyped-decorator]
def scale(  # type: ignore[no-untyped-def]
    x, factor, offset, out, pixels, channels,
    rows: tl.constexpr, block: tl.constexpr, silu: tl.constexpr,
):  # fmt: skip
    """Every value times its channel's factor, plus its offset."""
    sample = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * rows + tl.arange(0, rows)
    channel = tl.program_id(2) * block + tl.arange(0, block)
    known = channel < channels
    inside = (pixel < pixels)[:, None] & known[None, :]
    place = sample * pixels * channels + pixel[:, None] * channels + channel[None, :]
    a = tl.load(factor + sample * channels + channel, known, other=0.0)
    b = tl.load(offset + sample * channels + channel, known, other=0.0)
    value = tl.load(x + place, inside, other=0.0).to(tl.float32)
    value = value * a[None, :] + b[None, :]
    if silu:
        value = value * tl.sigmoid(value)
    tl.store(out + place, value.to(out.dtype.element_ty), inside)


@triton.jit  # type: ignore[untyped-decorator]
def whole(  # type: ignore[no-untyped-def]
    x, weight, bias, out, pixels, channels, eps,
    width: tl.constexpr, padded: tl.constexpr, rows: tl.constexpr, silu: tl.constexpr,
):  # fmt: skip
    """One group of one sample, read once."""
    sample, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    own, pixel = tl.arange(0, padded), tl.arange(0, rows)
    channel, known = group * width + own, own < width
    inside = (pixel < pixels)[:, None] & known[None, :]
    place = (sample * pixels + pixel[:, None]) * channels + channel[None, :]
    value = tl.load(x + place, inside, other=0.0).to(tl.float32)
    total = pixels * width * 1.0
    mean = tl.sum(tl.sum(value, 1), 0) / total
    away = tl.where(inside, value - mean, 0.0)
    variance = tl.sum(tl.sum(away * away, 1), 0) / total
    factor = tl.load(weight + channel, known, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, known, other=0.0).to(tl.float32)
    value = away * (factor / tl.sqrt(variance + eps))[None, :] + offset[None, :]
    if silu:
        value = value * tl.sigmoid(value)
    tl.store(out + place, value.to(out.dtype.element_ty), inside)


def group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool = False
) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over groups of channels.

    Args:
        x: ``[B,C,h,w]`` in channels_last.
        groups: their number, which divides C.
        weight, bias: ``[C]``.
        eps: added to the variance.
        silu: whether ``y * sigmoid(y)`` of it is taken.

    Returns:
        ``[B,C,h,w]`` in channels_last and in the type of ``x``.
    """
    samples, channels, height, width = x.shape
    pixels, each = height * width, channels // groups
    rows, padded = triton.next_power_of_2(pixels), triton.next_power_of_2(each)
    out = torch.empty_like(x)
    # Triton launches on the current device, which need not be that of the tensors.
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        if rows * padded <= WHOLE:
            whole[(samples, groups)](
                x, weight, bias, out, pixels, channels, eps,
                width=each, padded=padded, rows=rows, silu=silu,
                num_warps=max(1, min(16, rows * padded // 1024)),
            )  # fmt: skip
            return out
        columns, tiles = triton.cdiv(channels, CHANNELS), triton.cdiv(pixels, ROWS)
        splits = max(1, min(tiles, 128, PROGRAMS // (samples * columns)))
        share = triton.cdiv(tiles, splits) * ROWS
        splits = triton.cdiv(pixels, share)
        means, squares = x.new_empty(2, samples, splits, channels, dtype=torch.float32)
        factor, offset = x.new_empty(2, samples, channels, dtype=torch.float32)
        moments[(samples, splits, columns)](
            x, means, squares, pixels, channels, share, splits, rows=ROWS, block=CHANNELS
        )
        factors[(samples, groups)](
            means, squares, weight, bias, factor, offset, pixels, channels, share, splits, eps,
            width=each, parts=triton.next_power_of_2(splits), padded=padded,
        )  # fmt: skip
        scale[(samples, tiles, columns)](
            x, factor, offset, out, pixels, channels, rows=ROWS, block=CHANNELS, silu=silu
        )
    return out
