"""`blend.TwoBand` and `blend.Soft` for many frames at once, in torch, on any device."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.propagation.blending.blend import GRID, LARGEST, TwoBand, odd
from rerender.propagation.blending.texture import SPARSE, STRIDE
from rerender.propagation.patches.tensors import Guesses, area, box


def share(left: Guesses, right: Guesses, time: Tensor, tolerance: float) -> Tensor:
    """The weight ``[B,H,W]`` of the right version under soft error weighting; ``time [B]`` is in
    0..1."""
    odds = (left.error - right.error) * (0.25 / tolerance**2) + torch.logit(time)[:, None, None]
    return torch.sigmoid(odds.clamp(-float(LARGEST), float(LARGEST)))


def soft(left: Guesses, right: Guesses, time: Tensor, tolerance: float) -> Tensor:
    """`blend.Soft`: ``[B,H,W,3]`` in levels."""
    weight = share(left, right, time, tolerance)[..., None]
    return torch.lerp(left.image, right.image, weight)


def two_band(blend: TwoBand, left: Guesses, right: Guesses, time: Tensor) -> Tensor:
    """`blend.TwoBand` of both versions of ``B`` frames at ``time [B]``: ``[B,H,W,3]`` in levels,
    which may leave 0..255."""
    weight = share(left, right, time, blend.tolerance)[:, None]
    a, b = (guess.image.permute(0, 3, 1, 2) for guess in (left, right))
    high_a, high_b = a - low(a, blend.sigma), b - low(b, blend.sigma)
    band = torch.lerp(high_a, high_b, weight)
    powers = [high.square().sum(1, keepdim=True) for high in (high_a, high_b, band)]
    early, later, mean = box(torch.cat(powers, 1), blend.window)[:, :, None].unbind(1)
    largest: float | Tensor = blend.gain
    if left.detail is not None and right.detail is not None:
        errors = left.error + right.error
        own = own_texture(blend, high_a, high_b, errors)[:, None, None, None]
        early = early + own * (whole(left.detail, early) - early).clamp(min=0)
        later = later + own * (whole(right.detail, later) - later).clamp(min=0)
        largest = 1 + (blend.gain - 1) * (1 + own)
    wanted = torch.maximum(early * (2 - 2 * weight).clamp(max=1), later * (2 * weight).clamp(max=1))
    wanted = torch.maximum(wanted, torch.lerp(early, later, weight))
    # One squared level is added to both: where there is nothing to keep, the gain is 1.
    gain = ((wanted + 1) / (mean.clamp(min=0) + 1)).sqrt().clamp(min=1)
    gain = (gain.clamp(max=largest) if isinstance(largest, float) else gain.minimum(largest)) - 1
    detail = band * gain
    # Amplifying by a gain that varies makes low frequencies too, which are not wanted.
    detail = detail - box(detail, odd(np.sqrt(12) * blend.sigma))
    field = cast(a, b, (left.error + right.error)[:, None], blend.tolerance)
    mixed = torch.lerp(a, b, weight) + detail + (time[:, None, None, None] - weight) * field
    blended: Tensor = mixed.permute(0, 2, 3, 1)
    return blended


def own_texture(blend: TwoBand, left: Tensor, right: Tensor, errors: Tensor) -> Tensor:
    """`blend.TwoBand.own_texture` of high bands ``[B,3,H,W]`` and summed errors ``[B,H,W]``:
    ``[B]``."""
    left, right = (high[..., ::SPARSE, ::SPARSE].double() for high in (left, right))
    trust = torch.exp(errors[:, ::SPARSE, ::SPARSE].double() * (-0.25 / blend.tolerance**2))
    apart = (trust * (left - right).square().sum(1)).sum((1, 2))
    both = (trust * (left.square().sum(1) + right.square().sum(1) + 1)).sum((1, 2)) + 1e-6
    first, last = blend.disagreement
    own: Tensor = ((apart / both - first) / (last - first)).clamp(0, 1).float()
    return own


def detail(blend: TwoBand, style: Tensor) -> Tensor:
    """`blend.TwoBand.detail` of key frames ``[B,H,W,3]`` in levels: ``[B,H,W]``."""
    planes = style.permute(0, 3, 1, 2)
    high = planes - low(planes, blend.sigma)
    return box(high.square().sum(1, keepdim=True), blend.window)[:, 0]


def taken(strength: Tensor, matches: Tensor) -> Tensor:
    """`texture.taken` of ``[B,H,W]`` and matches ``[B,H,W,2]``: ``[B,ceil(H/4),ceil(W/4)]``."""
    x, y = matches[:, ::STRIDE, ::STRIDE].long().unbind(-1)
    frame = torch.arange(len(strength), device=strength.device)[:, None, None]
    return strength[frame, y, x]


def whole(strength: Tensor, like: Tensor) -> Tensor:
    """`texture.whole`: ``[B,1,H,W]``."""
    return F.interpolate(strength[:, None], like.shape[-2:], mode="bilinear")


def low(planes: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur by two boxes of the same variance."""
    side = odd(np.float64(sqrt(6 * sigma**2 + 1)))
    return box(box(planes, side), side)


def cast(left: Tensor, right: Tensor, error: Tensor, tolerance: float) -> Tensor:
    """`blend.cast` of ``[B,3,H,W]`` images and their summed errors ``[B,1,H,W]``."""
    height, width = left.shape[-2:]
    rows = min(GRID, height)
    size = rows, max(round(rows * width / height), 1)
    small = area(torch.cat([right - left, error], 1), size)
    trust = torch.exp(-small[:, 3:] / (4 * tolerance**2)) + 1e-3
    sums = torch.cat([small[:, :3] * trust, trust], 1)
    for _ in range(2):
        sums = box(sums, GRID + 1)
    return F.interpolate(sums[:, :3] / sums[:, 3:], (height, width), mode="bilinear")
