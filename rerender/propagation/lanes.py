"""PatchMatch of both directions of one or more segments at once, in torch on a device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rerender.contracts import BatchedFlowEstimator, FlowEstimator
from rerender.contracts.upload import upload
from rerender.flow.field import warp
from rerender.propagation.blending.blend import Blend, TwoBand
from rerender.propagation.blending.sides import LARGEST, StoredDirection, blended
from rerender.propagation.blending.tensors import two_band
from rerender.propagation.motion import batched as motion
from rerender.propagation.motion.batched import DeviceFrames, Steps, Way
from rerender.propagation.motion.chain import Links, follow, link
from rerender.propagation.patches import batched, tensors
from rerender.propagation.patches.guides import Guides
from rerender.propagation.patches.search import Search
from rerender.propagation.patches.tensors import Guesses
from rerender.video import Frame, Segment

BATCH = 8
"""Frames of one direction that are searched together where none needs the one before."""


class KeyPictures(NamedTuple):
    """Key frames in all the forms that patches and warping need (see `picture.KeyPicture`).

    Attributes:
        both: ``[B,H+4,W+4,8]``.
        packed, bare: their guides, ``[B,H+4,W+4,...]``.
    """

    both: Tensor
    packed: Tensor
    bare: Tensor


class Lane(NamedTuple):
    """One direction of a segment: a key frame and the indices that lead away from it."""

    key: Frame
    frames: Sequence[int]
    segment: Segment


@dataclass(frozen=True)
class Lanes:
    """Makes the frames of segments on a device.

    Attributes:
        guides, search, tolerance, blend: as of `patchmatch.PatchMatch`.
        device: where.
    """

    guides: Guides
    search: Search
    tolerance: float
    blend: Blend
    device: torch.device

    def fill(self, segments: Sequence[Segment], flow: FlowEstimator) -> Iterator[Tensor]:
        """The frames ``[3,H,W]`` in 0..1 of segments of one video, in order. A segment without a
        right key frame stands alone, and each of its frames is handed out when it is made."""
        lanes = [lane for segment in segments for lane in directions(segment)]
        shown = DeviceFrames(segments[0].video, self.device)
        if isinstance(flow, BatchedFlowEstimator):
            known = {id(segment): motion.link(segment, flow, shown) for segment in segments}
            ways = [Way(lane.key.index, lane.frames, known[id(lane.segment)]) for lane in lanes]
            links: dict[int, Links] = {**known}
            steps = motion.follow(ways, flow, shown)
        else:
            links = {id(segment): link(segment, flow) for segment in segments}
            steps = self.compiled(lanes, links, flow)
        made = self.batches(self.pictures(lanes, shown), steps)
        if segments[0].right is None:
            yield from handed(guess.image for _, guess in made)
            return
        sides: list[list[Guesses]] = [[] for _ in lanes]
        for number, guess in made:
            sides[number].append(halved(guess))
        number = 0
        for segment in segments:
            count = len(directions(segment))
            parts = sides[number : number + count]
            yield from self.joined(segment, parts, links[id(segment)])
            sides[number : number + count] = [[] for _ in parts]
            number += count

    def compiled(
        self, lanes: Sequence[Lane], links: dict[int, Links], flow: FlowEstimator
    ) -> Iterator[Steps]:
        """The motion of all lanes by an estimator of one pair at a time, on the processor."""
        every = [
            follow(lane.segment.video, lane.key.index, lane.frames, links[id(lane.segment)], flow)
            for lane in lanes
        ]
        for turn in range(max(len(lane.frames) for lane in lanes)):
            going = [number for number, lane in enumerate(lanes) if turn < len(lane.frames)]
            stops = [next(every[number]) for number in going]
            arrays = (
                batched.stacked(parts, self.device).permute(0, 3, 1, 2)
                for parts in (
                    [stop.target for stop in stops],
                    [stop.motion.offset for stop in stops],
                    [stop.link.offset for stop in stops],
                )
            )
            yield Steps(going, [stop.index for stop in stops], *arrays)

    def pictures(self, lanes: Sequence[Lane], shown: DeviceFrames) -> KeyPictures:
        """The key frames of all lanes."""
        styles = [upload(lane.key.image.float(), self.device)[None].clamp(0, 1) for lane in lanes]
        sources = [shown.image(lane.key.index) for lane in lanes]
        style, source = (
            (255 * torch.cat(images)).permute(0, 2, 3, 1).contiguous()
            for images in (styles, sources)
        )
        still = torch.zeros_like(source[..., :2])
        guides = tensors.pack(self.guides, style, source, tensors.edges(source), still)
        return KeyPictures(tensors.paired(style, source), *guides)

    def batches(self, keys: KeyPictures, steps: Iterator[Steps]) -> Iterator[tuple[int, Guesses]]:
        """Every frame of every lane, ``[1,H,W,...]``, with the number of the lane: one of each at a
        time where the temporal guide asks for the frame before, some more where it does not."""
        count, before, ways = 1 if self.guides.temporal else BATCH, None, None
        for group in grouped(steps, count):
            going = group[0].ways
            if going != ways:
                chosen = keys
                if len(going) < len(keys.both):
                    chosen = KeyPictures(*(part[torch.tensor(going)] for part in keys))
                if before is not None and ways is not None:
                    before = before[torch.tensor([ways.index(number) for number in going])]
                ways = going
            merged = self.searched(chosen, group, before)
            if count == 1:
                before = merged.image
            for number in range(len(merged.image)):
                one = slice(number, number + 1)
                yield going[number % len(going)], Guesses(merged.image[one], merged.error[one])

    def searched(self, keys: KeyPictures, group: Sequence[Steps], before: Tensor | None) -> Guesses:
        """A batch of frames of every lane, one step after the other; ``before [A,H,W,3]`` are the
        frames that were made last."""
        if len(group) > 1:
            keys = KeyPictures(*(part.repeat(len(group), 1, 1, 1) for part in keys))
        target, offset, link = (
            torch.cat(parts).permute(0, 2, 3, 1).contiguous()
            for parts in zip(
                *((step.target, step.offset, step.link) for step in group), strict=True
            )
        )
        moved = tensors.warped(keys.both, offset, target)
        last = moved.image
        if before is not None:
            planes = before.permute(0, 3, 1, 2), link.permute(0, 3, 1, 2)
            last = warp(*planes, outside="border").permute(0, 2, 3, 1)
        estimate = last
        if self.guides.style:
            share = self.guides.temporal / (self.guides.style + self.guides.temporal)
            estimate = torch.lerp(moved.image, last, share)
        targets = tensors.pack(self.guides, estimate, target, tensors.edges(target), offset)
        frames = [index for steps in group for index in steps.frames]
        sources = keys.packed, keys.bare
        matches = batched.matched(self.search, self.guides, frames, sources, targets, offset)
        voted = tensors.settled(batched.vote(keys.both, matches), target)
        return tensors.merge(moved, voted, self.tolerance)

    def joined(
        self, segment: Segment, sides: list[list[Guesses]], links: Links
    ) -> Iterator[Tensor]:
        """The frames of a segment from what its directions made."""
        assert segment.right is not None
        right = sides[-1][::-1]
        if segment.left and isinstance(self.blend, TwoBand):
            yield from handed(self.banded(self.blend, segment, sides[0], right))
            return
        left = map(stored, sides[0] if segment.left else [])
        yield from blended(segment, left, [*map(stored, right)], self.blend, links)

    def banded(
        self, blend: TwoBand, segment: Segment, left: list[Guesses], right: list[Guesses]
    ) -> Iterator[Tensor]:
        """The frames of both directions blended on the device, ``[1,H,W,3]`` in levels."""
        assert segment.left is not None and segment.right is not None
        first, last = segment.left.index, segment.right.index
        frames = range(segment.start, segment.stop)
        for index, *pair in zip(frames, left, right, strict=True):
            time = torch.full((1,), (index - first) / (last - first), device=self.device)
            early, later = (Guesses(*(part.float() for part in guess)) for guess in pair)
            yield two_band(blend, early, later, time)


def directions(segment: Segment) -> list[Lane]:
    """The lanes of a segment, that of its left key frame first."""
    frames = range(segment.start, segment.stop)
    both = (segment.left, frames), (segment.right, frames[::-1])
    return [Lane(key, order, segment) for key, order in both if key]


def grouped(steps: Iterator[Steps], count: int) -> Iterator[list[Steps]]:
    """Up to ``count`` steps of the same lanes together."""
    group: list[Steps] = []
    for step in steps:
        if group and step.ways != group[0].ways:
            yield group
            group = []
        group.append(step)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group


def halved(guess: Guesses) -> Guesses:
    """A guess in half of its memory (see `StoredDirection`), still on the device."""
    return Guesses(guess.image.half(), guess.error.clamp(max=float(LARGEST)).half())


def stored(guess: Guesses) -> StoredDirection:
    """One halved guess ``[1,H,W,...]`` as arrays."""
    return StoredDirection(guess.image[0].cpu().numpy(), guess.error[0].cpu().numpy())


def handed(pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    """``[1,H,W,3]`` in levels as images ``[3,H,W]`` in 0..1 on the processor. A GPU works on the
    next one while one is copied and used."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for picture in pictures:
        image = (picture[0].permute(2, 0, 1) / 255).clamp(0, 1).contiguous()
        if not image.is_cuda:
            yield image
            continue
        copy = torch.empty(image.shape, pin_memory=True)
        copy.copy_(image, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        if waiting:
            waiting[1].synchronize()
            yield waiting[0]
        waiting = copy, event
    if waiting:
        waiting[1].synchronize()
        yield waiting[0]
