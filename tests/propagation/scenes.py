"""Small clips for tests: still, moving by whole pixels, cut in two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.scene import Trace, Translation
from rerender.video import Frame, KeyFrame, MemoryVideo, Segment


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random picture ``[3,H,W]`` with values on the 8-bit grid."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 6 + 2, width // 6 + 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    return (smooth.clamp(0, 1) * 255).round() / 255


def moving(frames: int, height: int = 48, width: int = 64, speed: int = 1) -> MemoryVideo:
    """A picture that moves to the left by whole pixels."""
    wide = texture(height, width + speed * frames)
    views = [wide[:, :, speed * t : speed * t + width].clone() for t in range(frames)]
    return MemoryVideo(views)


def still(frames: int, height: int = 48, width: int = 64) -> MemoryVideo:
    """The same picture all the time."""
    return MemoryVideo([texture(height, width)] * frames)


def translated(index: int, image: Tensor, shot: int = 0) -> Translation:
    """A key frame with its translation."""
    return Translation(KeyFrame(index, image, shot=shot), Trace(image=image))


def keys(video: MemoryVideo, indices: Iterable[int], shot: int = 0) -> Iterator[Translation]:
    """Key frames translated to their negative."""
    return (translated(index, 1 - video[index], shot) for index in indices)


@dataclass(frozen=True)
class NoFlow(FlowEstimator):
    """Says that nothing moves."""

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return torch.zeros(1, 2, *target.image.shape[-2:])


@dataclass(frozen=True)
class Drift(FlowEstimator):
    """Says that everything moves to the right by less than half a pixel between neighbours: what
    leaves the picture is not hidden by the forward-backward test."""

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        x = 0.45 if source.index > target.index else -0.45
        height, width = target.image.shape[-2:]
        return torch.tensor([x, 0.0]).view(1, 2, 1, 1).expand(1, 2, height, width)


@dataclass(frozen=True)
class Names(Propagation):
    """Paints each frame with the numbers of the frames it was made from (left, own, right)."""

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        left = -1 if segment.left is None else segment.left.index
        right = -1 if segment.right is None else segment.right.index
        for index in range(segment.start, segment.stop):
            yield torch.tensor([left, index, right]).view(3, 1, 1).expand(3, *segment.video.size)
