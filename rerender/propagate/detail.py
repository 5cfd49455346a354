"""Key frames brought to the size of the source, with detail that the source leads.

A translated key frame K is small, its source frame I is known small and large. In each small window
K is written as a linear function of the source's colour, K ~ A I + b, by ridge regression (the
guided filter of He et al. 2013, on all three channels at once); A and b are smooth, so they are
interpolated, and applied to the large source frame. What the regression leaves out, such as strokes
that the source does not have, is put back by back-projection: the difference between K and the
large picture made small again is added, interpolated. At last each value is limited to the range
that K has around it, so that no edge gets a halo that K does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.fitting import resize
from rerender.scene import Trace, Translation
from rerender.video import Clip

RADIUS = 2  # of windows, in pixels of the small picture
RIDGE = 1e-3  # of the regression, squared values 0..1: contrast below sqrt(RIDGE) leads little


def enlarged(keys: Iterator[Translation], clip: Clip) -> Iterator[Translation]:
    """Translated key frames at the size at which the result of a clip is made; as they are where
    that is the size at which it is processed."""
    return keys if clip.output.size == clip.video.size else map(Enlarger(clip), keys)


@dataclass(frozen=True)
class Enlarger:
    """Brings translated key frames of a clip to the size of its source."""

    clip: Clip

    def __call__(self, translation: Translation) -> Translation:
        key, image = translation.key, translation.image.detach().float().cpu()
        large = self.clip.output[key.index]
        picture = transfer(image.clamp(0, 1), self.clip.video[key.index], large)
        # Traces and control maps are of the small picture; propagation looks at neither.
        return Translation(replace(key, image=large, controls=()), Trace(image=picture))


def transfer(image: Tensor, source: Tensor, guide: Tensor) -> Tensor:
    """An image at the size of a larger guide.

    Args:
        image: the translated picture ``[3,h,w]`` in 0..1.
        source: the source picture of the same size.
        guide: the source picture ``[3,H,W]``, large.

    Returns:
        ``[3,H,W]`` in 0..1. Made small again it is ``image`` up to the limits of range; where one
        side of the guide is smaller than the image's, it is only resized.
    """
    size = (guide.shape[-2], guide.shape[-1])
    if size[0] < image.shape[-2] or size[1] < image.shape[-1]:
        return resize(image, size)
    slope, offset = regression(image, source)
    large = torch.empty(3, *size)
    for channel in range(3):  # one at a time: nine large planes would be more than all the rest
        led = (_interpolated(slope[channel], size) * guide).sum(0)
        large[channel] = led + _interpolated(offset[channel, None], size)[0]
    large += _smooth(image - resize_signed(large, image), size)
    return limited(large, image)


def regression(image: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """``A [3,3,h,w]`` and ``b [3,h,w]`` with image ~ A source + b around every pixel.

    ``A = cov(K, I) (cov(I, I) + RIDGE 1)^-1`` and ``b = mean(K) - A mean(I)``, over windows of
    ``2 RADIUS + 1`` pixels, then averaged over all windows that hold a pixel.
    """
    height, width = image.shape[-2:]
    mean_image, mean_source = _mean(image), _mean(source)
    among = _mean((source[:, None] * source).flatten(0, 1)).view(3, 3, height, width)
    across = _mean((image[:, None] * source).flatten(0, 1)).view(3, 3, height, width)
    among = (among - mean_source[:, None] * mean_source).permute(2, 3, 0, 1)
    across = (across - mean_image[:, None] * mean_source).permute(2, 3, 0, 1)
    ridge = RIDGE * torch.eye(3)
    slope = torch.linalg.solve(among + ridge, across.transpose(-1, -2)).transpose(-1, -2)
    slope = slope.permute(2, 3, 0, 1).contiguous()
    offset = mean_image - (slope * mean_source).sum(1)
    return _mean(slope.flatten(0, 1)).view(3, 3, height, width), _mean(offset)


def limited(large: Tensor, image: Tensor) -> Tensor:
    """Values within the range that the small image has within ``RADIUS`` pixels."""
    side, size = 2 * RADIUS + 1, (large.shape[-2], large.shape[-1])
    edged = F.pad(image[None], (RADIUS,) * 4, mode="replicate")
    high = F.max_pool2d(edged, side, 1)[0]
    low = -F.max_pool2d(-edged, side, 1)[0]
    # In between of pixels the range is interpolated, so that it has no steps of its own.
    return torch.minimum(
        torch.maximum(large, _interpolated(low, size)), _interpolated(high, size)
    ).clamp(0, 1)


def resize_signed(large: Tensor, like: Tensor) -> Tensor:
    """Area means at the size of another picture, of values that may leave 0..1."""
    low, high = float(large.min()), float(large.max())
    span = max(high - low, 1e-6)
    size = (like.shape[-2], like.shape[-1])
    return resize((large - low) / span, size) * span + low


def _mean(planes: Tensor) -> Tensor:
    """Means over windows, ``[C,h,w]``; the picture goes on beyond its borders as at them."""
    edged = F.pad(planes[None], (RADIUS,) * 4, mode="replicate")
    return F.avg_pool2d(edged, 2 * RADIUS + 1, 1)[0]


def _interpolated(planes: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]


def _smooth(planes: Tensor, size: tuple[int, int]) -> Tensor:
    # With antialias=True the cubic is the one that keeps straight ramps straight (a = -0.5).
    return F.interpolate(planes[None], size, mode="bicubic", antialias=True)[0]
