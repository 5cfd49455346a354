"""`chain` for several key frames at once, in torch on a device: flow, light and refinement.

Both directions of one or more segments are followed in step. The frames are on the device once, and
so is the flow between neighbours; nothing waits for the device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rerender.compiled import fused
from rerender.contracts import BatchedFlowEstimator
from rerender.contracts.upload import upload
from rerender.flow.field import warp
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import FrameMotion, Links
from rerender.propagation.motion.exposure_tensors import levelled
from rerender.propagation.motion.flashes import clipped, flashes
from rerender.propagation.motion.graphed import graphed
from rerender.propagation.motion.tensors import refine
from rerender.video import Segment, Video

PIXELS = 1 << 22
"""Pixels of frames whose flow is estimated at once: more take memory and gain nothing."""

KEPT = 1 << 27
"""Pixels of source frames that stay on the device for the other direction: 1.6 GB."""


GRAPHED = 1 << 22
"""Pixels of frames up to which the direct look is one CUDA graph: two of 1080p. Of larger ones the
launches are little, and the memory that a graph keeps is much."""


class Way(NamedTuple):
    """One direction of a segment.

    Attributes:
        key: index of the key frame.
        frames: indices that lead away from it one by one.
        links: flow between neighbours.
    """

    key: int
    frames: Sequence[int]
    links: BatchedLinks


class Steps(NamedTuple):
    """The next frame of every way that has one.

    Attributes:
        ways: which ways.
        frames: index of each frame.
        target: the source frames in levels, in the light of their key frames, ``[A,3,H,W]``.
        offset: ``[A,2,H,W]`` from them to their key frames.
        link: ``[A,2,H,W]`` from them to the frames one nearer to the key frames.
    """

    ways: list[int]
    frames: list[int]
    target: Tensor
    offset: Tensor
    link: Tensor


class DeviceFrames:
    """Source frames on a device, of which the last ones stay there.

    Args:
        video: the source.
        device: where they are wanted.
    """

    def __init__(self, video: Video, device: torch.device) -> None:
        height, width = video.size
        self.video, self.device = video, device
        self.many = max(1, PIXELS // (height * width))
        self._most = max(4, KEPT // (height * width))
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._clipped: dict[int, float] = {}

    def image(self, index: int) -> Tensor:
        """A frame ``[1,3,H,W]`` in 0..1."""
        if index not in self._kept:
            image = self.video[index].float()
            self._clipped[index] = clipped(image)
            self._kept[index] = upload(image, self.device)[None].clamp(0, 1)
        self._kept.move_to_end(index)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return self._kept[index]

    def clipped(self, indices: Sequence[int]) -> list[float]:
        """What `flashes.clipped` says of frames that were shown; told on the processor, so that
        nothing waits for the device."""
        return [self._clipped[index] for index in indices]

    def images(self, indices: Sequence[int]) -> Tensor:
        """Frames ``[B,3,H,W]`` in 0..1."""
        return torch.cat([self.image(index) for index in indices])


class Offsets(Protocol):
    """Flow between neighbours, ``[1,2,H,W]`` on the device."""

    def __call__(self, index: int, other: int) -> Tensor:
        """From frame ``index`` to its neighbour ``other``."""


@dataclass(frozen=True)
class BatchedLinks(Links):
    """Flow between the neighbours of a segment on a device.

    Attributes:
        offsets: the flow.
    """

    offsets: Offsets

    def before(self, index: int) -> FrameMotion:
        return FrameMotion(pixels.vectors(self.offsets(index, index - 1)))

    def after(self, index: int) -> FrameMotion:
        return FrameMotion(pixels.vectors(self.offsets(index, index + 1)))


def link(segment: Segment, flow: BatchedFlowEstimator, shown: DeviceFrames) -> BatchedLinks:
    """The flow between all neighbours of a segment, its key frames included, in half precision
    (see `chain.link`); each estimated when it is asked for where the segment may have no end. Over
    a flash it is even in time."""
    rough = flow.rough()
    if segment.right is None:

        def live(index: int, other: int) -> Tensor:
            return rough.estimate(shown.image(index), shown.image(other), None)

        return BatchedLinks(live)

    first = segment.start if segment.left is None else segment.left.index
    indices = range(first, segment.right.index)
    known: dict[tuple[int, int], Tensor] = {}
    many = max(1, shown.many // 2)
    for begin in range(0, len(indices), many):
        some = indices[begin : begin + many]
        here, next_ = shown.images(some), shown.images([index + 1 for index in some])
        found = rough.estimate(torch.cat([here, next_]), torch.cat([next_, here]), None).half()
        ahead, back = found.chunk(2)
        for number, index in enumerate(some):
            known[index, index + 1] = ahead[number : number + 1]
            known[index + 1, index] = back[number : number + 1]
    for run in flashes(shown.clipped(range(first, segment.right.index + 1))):
        before, after, count = first + run.start - 1, first + run.stop, len(run) + 1
        here, next_ = shown.images([before, after]), shown.images([after, before])
        there, home = rough.estimate(here, next_, None).split_with_sizes([1, 1])
        for step in range(count):
            index = before + step
            known[index, index + 1] = part(there, step, count).half()
            known[index + 1, index] = part(home, count - 1 - step, count).half()
    return BatchedLinks(lambda index, other: known[index, other].float())


def part(whole: Tensor, step: int, count: int) -> Tensor:
    """One of ``count`` equal steps of a flow, from where ``step`` of them have led to."""
    return warp(whole, whole * (-step / count), outside="border") / count


def follow(ways: Sequence[Way], flow: BatchedFlowEstimator, shown: DeviceFrames) -> Iterator[Steps]:
    """The motion of each way's frames to its key frame, all in step (see `chain.follow`)."""
    active: list[int] = []
    source = found = torch.empty(0)
    for turn in range(max(len(way.frames) for way in ways)):
        going = [number for number, way in enumerate(ways) if turn < len(way.frames)]
        if going != active:
            source = 255 * shown.images([ways[number].key for number in going])
            if turn:
                found = found[torch.tensor([active.index(number) for number in going])]
            active = going
        frames = [ways[number].frames[turn] for number in active]
        steps = [
            ways[number].links.offsets(index, index - 1 if index > ways[number].key else index + 1)
            for number, index in zip(active, frames, strict=True)
        ]
        step = torch.cat(steps)
        chained = step + warp(found, step, outside="border") if turn else step
        images = 255 * shown.images(frames), source, chained
        if fused(source.device) and source[:, 0].numel() <= GRAPHED:
            target, found = graphed(flow, partial(looked, flow), *images)
        else:
            target, found = looked(flow, *images)
        yield Steps(active, frames, target, found, step)


def looked(
    flow: BatchedFlowEstimator, target: Tensor, source: Tensor, chained: Tensor
) -> tuple[Tensor, Tensor]:
    """Frames ``[A,3,H,W]`` in the light of their key frames, both in levels, and the direct look
    from them to these: refined offsets ``[A,2,H,W]``, begun at those of the chain."""
    lit = levelled(target, source, chained)
    direct = flow.estimate(lit / 255, source / 255, chained)
    return lit, refine(source, lit, direct)
