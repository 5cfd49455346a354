"""The autoencoder in overlapping tiles, so that its memory does not grow with the picture.

A tile by itself would be normalized by its own statistics, which shows as steps of brightness
between tiles. So the statistics of every GroupNorm are gathered over all tiles first, each pixel
counted once. They depend on those of the norms before, so that all tiles are computed once for
each norm, up to it: time is given for memory, about half as many evaluations as there are norms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Tiles:
    """How pictures are cut, all in pixels of them.

    Attributes:
        above: longest short side that is computed whole.
        side: longest side of a tile.
        overlap: of neighbours, at most a third of a side. The outer quarter at either end is
            dropped, since a tile's edge lacks what lies beyond; the rest is blended linearly.
    """

    above: int = 768
    side: int = 512
    overlap: int = 128

    def cut(self, height: int, width: int) -> bool:
        """Whether a picture of this size is computed in tiles."""
        return min(height, width) > self.above and max(height, width) > self.side


class _Span(NamedTuple):
    """One tile along one axis, in latent cells: what it covers, and its own share of that."""

    start: int
    stop: int
    own_start: int
    own_stop: int
    before: int  # cells shared with the tile before
    after: int


def tiled(
    vae: nn.Module,
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    tiles: Tiles,
    factor: int,
    encodes: bool,
) -> Tensor:
    """What a function of an autoencoder makes, from tiles of what it takes.

    Over the n pixels that it shares with a neighbour a tile's weight at pixel i is
    ``clip(2 (i + 1/2) / n - 1/2, 0, 1)``, rising inwards; those of two neighbours sum to 1.

    Args:
        vae: whose GroupNorms share their statistics.
        function: encodes ``[1,3,H,W] -> [1,C,H/f,W/f]`` or decodes ``[1,C,h,w] -> [.,hf,wf]``.
        x: a picture, or a latent.
        tiles: how it is cut.
        factor: f, pixels of a latent cell.
        encodes: whether it takes a picture, not a latent.

    Returns:
        as ``function`` returns of the whole. GroupNorms are near those of the whole; attention of
        the autoencoder (Stable Diffusion has one layer) sees its tile alone.
    """
    into, out_of = (factor, 1) if encodes else (1, factor)
    cells = [length // into for length in x.shape[-2:]]
    side, overlap = tiles.side // factor, tiles.overlap // factor
    grid = [
        (v, h) for v in _spans(cells[0], side, overlap) for h in _spans(cells[1], side, overlap)
    ]
    norms = [module for module in vae.modules() if isinstance(module, nn.GroupNorm)]
    shared = _Shared()

    def computed(v: _Span, h: _Span) -> Tensor:
        shared.tile = (v, h)
        part = x[..., v.start * into : v.stop * into, h.start * into : h.stop * into]
        return function(part.contiguous())

    def gather() -> bool:
        """Whether there was a norm whose statistics were not known yet."""
        for v, h in grid:
            try:
                computed(v, h)
            except _GatheredError:
                continue
            return False
        shared.settle()
        return True

    with shared.instead_of(norms):
        while norms and gather():
            pass
        whole: Tensor | None = None
        for v, h in grid:
            made = computed(v, h)
            weight = _ramp(v, out_of, made)[:, None] * _ramp(h, out_of, made)
            if whole is None:
                whole = made.new_zeros(*made.shape[:-2], *(each * out_of for each in cells))
            place = whole[
                ..., v.start * out_of : v.stop * out_of, h.start * out_of : h.stop * out_of
            ]
            place += made * weight
    assert whole is not None
    return whole


def _spans(cells: int, side: int, overlap: int) -> list[_Span]:
    """As few tiles as cover an axis, of about the same length."""
    count = 1 if cells <= side else -(-(cells - overlap) // (side - overlap))
    length = -(-(cells + (count - 1) * overlap) // count)
    starts = [i * (cells - length) // max(1, count - 1) for i in range(count)]
    shared = [a + length - b for a, b in pairwise(starts)]
    edges = [0, *(b + n // 2 for b, n in zip(starts[1:], shared, strict=True)), cells]
    return [
        _Span(start, start + length, edges[i], edges[i + 1], before, after)
        for i, (start, before, after) in enumerate(
            zip(starts, [0, *shared], [*shared, 0], strict=True)
        )
    ]


def _ramp(span: _Span, scale: int, like: Tensor) -> Tensor:
    """Weights ``[n]`` of a tile along an axis."""
    weight = like.new_ones((span.stop - span.start) * scale)
    if before := span.before * scale:
        weight[:before] = _rise(before).to(like)
    if after := span.after * scale:
        weight[-after:] = 1 - _rise(after).to(like)
    return weight


def _rise(length: int) -> Tensor:
    return (2 * (torch.arange(length) + 0.5) / length - 0.5).clamp(0, 1)


class _GatheredError(Exception):
    """The first norm without known statistics was reached; what follows needs them."""


class _Shared:
    """Statistics of GroupNorms over all tiles.

    Attributes:
        tile: the one that is computed.
    """

    tile: tuple[_Span, _Span]

    def __init__(self) -> None:
        self._known: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._seen: list[tuple[nn.Module, Tensor, Tensor, int]] = []

    @contextmanager
    def instead_of(self, norms: list[nn.GroupNorm]) -> Iterator[None]:
        """Put these statistics into the norms, which are theirs again afterwards."""
        for norm in norms:
            norm.forward = partial(self._normal, norm)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for norm in norms:
                del norm.forward

    def settle(self) -> None:
        """Know the mean and variance of a norm: of means m, variances v of n values each."""
        total = sum(n for *_, n in self._seen)
        mean = torch.stack([m * (n / total) for _, m, _, n in self._seen]).sum(0)
        spread = [(v + (m - mean).square()) * (n / total) for _, m, v, n in self._seen]
        self._known[self._seen[0][0]] = mean, torch.stack(spread).sum(0)
        self._seen = []

    def _normal(self, norm: Any, input: Tensor) -> Tensor:
        v, h = self.tile
        rows, columns = v.stop - v.start, h.stop - h.start
        # Attention hands over [B,C,hw], in latent cells.
        maps = input.reshape(*input.shape[:2], rows, columns) if input.dim() == 3 else input
        if norm not in self._known:
            up = maps.shape[-2] // rows
            own = maps[
                ...,
                (v.own_start - v.start) * up : (v.own_stop - v.start) * up,
                (h.own_start - h.start) * up : (h.own_stop - h.start) * up,
            ]
            grouped = own.float().reshape(len(own), norm.num_groups, -1)
            variance, mean = torch.var_mean(grouped, -1, correction=0)
            self._seen.append((norm, mean, variance, grouped.shape[-1]))
            raise _GatheredError
        mean, variance = self._known[norm]
        scale = norm.weight.float() * _by_channel((variance + norm.eps).rsqrt(), norm)
        offset = norm.bias.float() - _by_channel(mean, norm) * scale
        normal = torch.addcmul(offset[..., None, None], maps.float(), scale[..., None, None])
        normal = normal.to(input.dtype).reshape(input.shape)
        return F.silu(normal) if getattr(norm, "silu", False) else normal


def _by_channel(value: Tensor, norm: Any) -> Tensor:
    """``[B,groups]`` -> ``[B,C]``."""
    return value.repeat_interleave(norm.num_channels // norm.num_groups, 1)
