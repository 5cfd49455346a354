"""`exposure` for several pairs of frames at once, in torch, on any device.

The same estimates with the same bounds. Every one is made for every pair, and those that are not
believed are left out by masks: so nothing waits for the device. Medians of an even number of values
are the lower of the two in the middle.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.flow.field import pixel_grid, warp
from rerender.propagation.motion.exposure import (
    ALIKE,
    BRIGHTEST,
    DARKEST,
    EXPLAINED,
    EXPLAINED_HERE,
    GAINS,
    LEAST,
    NOISE,
    PARTS,
    SPARSE,
    STIFF,
    WORSE,
    reduction,
)
from rerender.propagation.patches.tensors import area, box


class Lights(NamedTuple):
    """`exposure.Light` of ``B`` pairs, and which pairs have one.

    Attributes:
        gain, lift: ``[B,3,h,w]`` or ``[B,3,1,1]``.
        found: ``[B,1,1,1]`` bool.
    """

    gain: Tensor
    lift: Tensor
    found: Tensor


def levelled(target: Tensor, source: Tensor, offset: Tensor) -> Tensor:
    """Frames ``[B,3,H,W]`` in levels as they would look in the light of their key frames; a frame
    itself where that explains nothing.

    Args:
        target: the frames.
        source: the key frames.
        offset: ``[B,2,H,W]`` from frames to key frames, roughly.
    """
    height, width = target.shape[-2:]
    scale = reduction(height, width)
    size = max(height // scale, 1), max(width // scale, 1)
    here, there, motion = (area(planes, size) for planes in (target, source, offset))
    light = between(here, there, motion / scale)
    gain, lift = (F.interpolate(part, (height, width), mode="bilinear") for part in light[:2])
    moved = warp(source, offset, outside="border")
    value = target * gain + lift
    # What is clipped could be anything beyond.
    value = torch.where(target <= float(DARKEST), torch.minimum(value, moved), value)
    value = torch.where(target >= float(BRIGHTEST), torch.maximum(value, moved), value)
    return torch.where(light.found, value.clamp(0, 255), target)


def between(target: Tensor, source: Tensor, offset: Tensor) -> Lights:
    """The light ``[B,3,h,w]`` that lies between frames, and whether any does, ``[B,1,1,1]``."""
    moved = warp(source, offset, outside="border")
    known = usable(target, moved, offset)
    light = whole(*(planes[..., ::SPARSE, ::SPARSE] for planes in (target, moved, known)))
    gain = torch.where(light.found, light.gain, 1).expand_as(target)
    lift = torch.where(light.found, light.lift, 0).expand_as(target)
    found, going = light.found, torch.ones_like(light.found)
    allowed = torch.ones_like(known, dtype=torch.bool)
    for parts in PARTS:
        local, allowed = places(target * gain + lift, moved, known, parts, allowed)
        going = going & local.found
        lift = torch.where(going, local.gain * lift + local.lift, lift)
        gain = torch.where(going, local.gain * gain, gain)
        found = found | going
    return Lights(gain, lift, found & (known.mean((1, 2, 3), keepdim=True) >= 0.05))


def usable(seen: Tensor, moved: Tensor, offset: Tensor) -> Tensor:
    """1 where both frames are seen and no colour is clipped, ``[B,1,h,w]``."""
    height, width = seen.shape[-2:]
    x, y = (pixel_grid(offset) + offset).chunk(2, 1)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    both = torch.cat([seen, moved], 1)
    dull = (both > float(DARKEST)) & (both < float(BRIGHTEST))
    known: Tensor = inside & dull.all(1, keepdim=True)
    return known.to(seen.dtype)


def whole(seen: Tensor, moved: Tensor, known: Tensor) -> Lights:
    """One line for each colour over the whole frame, or an offset where that is as good."""
    nowhere = (known == 0).flatten(2)
    here, there = seen.flatten(2), moved.flatten(2)
    lift = median(there - here, nowhere)
    line, rest = robust_line(here, there, lift, nowhere)
    lines = (torch.ones_like(line), torch.zeros_like(rest)), (torch.ones_like(line), lift)
    left = torch.stack([there - here * a - b for a, b in (*lines, (line, rest))], 1).abs()
    # The three of a pair, over all of its pixels and colours: [B,3].
    joint = nowhere[:, None].expand_as(left).flatten(2)
    before, flat, bent = median(left.flatten(2), joint)[..., 0].chunk(3, 1)
    least = torch.minimum(flat, bent)
    found = (least <= EXPLAINED * before) & (before - least >= LEAST)
    inside = within(line).all(1)
    tilted = ((bent < 0.9 * flat) & inside)[..., None]
    gain, shift = torch.where(tilted, line, 1), torch.where(tilted, rest, lift)
    return Lights(gain[..., None], shift[..., None], found[..., None, None])


def within(gain: Tensor) -> Tensor:
    """Where a gain is one that is made up for."""
    return (gain > GAINS[0]) & (gain < GAINS[1])


def median(values: Tensor, without: Tensor) -> Tensor:
    """The median along the last axis, ``[...,1]``, but for some values."""
    return values.masked_fill(without, torch.nan).nanmedian(-1, keepdim=True).values


def robust_line(
    here: Tensor, there: Tensor, lift: Tensor, nowhere: Tensor
) -> tuple[Tensor, Tensor]:
    """Gain and offset ``[B,3,1]`` of values ``[B,3,n]`` that outliers do not move, begun at an
    offset."""
    gain, rest, known = torch.ones_like(lift), lift, (~nowhere).to(here.dtype)
    for _ in range(5):
        left = there - here * gain - rest
        spread = (1.5 * median(left.abs(), nowhere)).clamp(min=1)
        weight = known / (1 + (left / spread).square())
        total = weight.sum(-1, keepdim=True)
        middle, other = ((weight * v).sum(-1, keepdim=True) / total for v in (here, there))
        # Noise is in both, so neither explains the other: the ratio of their deviations.
        a, b = (
            (weight * (v - mean).square()).sum(-1, keepdim=True) / total + 1
            for v, mean in ((here, middle), (there, other))
        )
        gain = (b / a).sqrt()
        rest = other - gain * middle
    return gain, rest


def places(
    seen: Tensor, moved: Tensor, known: Tensor, parts: int, allowed: Tensor
) -> tuple[Lights, Tensor]:
    """The light about each place ``[B,3,h,w]``, 1 and 0 where it is not believed, and where it is
    believed, ``[B,1,h,w]``.

    Args:
        seen: the frames, in light of the key frames so far.
        moved: the key frames moved to them.
        known: 1 where both can be compared, ``[B,1,h,w]``.
        parts: windows along the shorter side.
        allowed: where light may be believed at all, ``[B,1,h,w]``.
    """
    side = 2 * (min(seen.shape[-2:]) // (2 * parts)) + 1
    apart = (moved - seen).abs().mean(1, keepdim=True)
    products = torch.cat([seen, moved, seen * seen, seen * moved, moved * moved], 1)
    weight = known
    for _ in range(4):
        means, total = box(torch.cat([weight * products, weight], 1), side).split_with_sizes(
            [15, 1], 1
        )
        a, b, squares, common, powers = (means / (total + 1e-4)).chunk(5, 1)
        spread, common = (squares - a * a).clamp(min=0), common - a * b
        gain = (common + STIFF) / (spread + STIFF)
        lift = b - gain * a
        left = moved - seen * gain - lift
        weight = known / (1 + (left / NOISE).square().mean(1, keepdim=True))
    rest, other = left.abs().mean(1, keepdim=True), (powers - b * b).clamp(min=0)
    worse = (rest > apart + 2) * known
    sums = box(torch.cat([known, apart * known, rest * known, worse], 1), side)
    share, before, after, wrong = sums.chunk(4, 1)
    good = (after < EXPLAINED_HERE * before) & (before - after > LEAST * share) & allowed
    good &= (share > 0.3) & (wrong < WORSE * share) & within(gain).all(1, keepdim=True)
    alike = (spread.sum(1, keepdim=True) * other.sum(1, keepdim=True)).clamp(min=1e-6).sqrt()
    good &= common.sum(1, keepdim=True) > ALIKE * alike
    # Where it ends it fades: at half of its strength there, since half of the window has none.
    strength = good.to(seen.dtype)
    mixed = box(torch.cat([(gain - 1) * strength, lift * strength, strength], 1), side)
    factor, level, trust = mixed.split_with_sizes([3, 3, 1], 1)
    strongest = trust.clamp(min=0.5)
    anywhere = good.flatten(1).any(1)[:, None, None, None]
    return Lights(factor / strongest + 1, level / strongest, anywhere), trust > 0.5
