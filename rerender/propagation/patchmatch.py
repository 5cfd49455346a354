"""Flow-started PatchMatch: patches verify flow, correct it, and search where it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.flow._sample import sample
from rerender.flow.field import warp
from rerender.propagation.blending.blend import Blend, Guess, TwoBand
from rerender.propagation.blending.sides import LARGEST, StoredDirection, blended, join
from rerender.propagation.blending.tensors import two_band
from rerender.propagation.motion.chain import Links, Step, follow, link
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches import batched, tensors
from rerender.propagation.patches.cubic import warped
from rerender.propagation.patches.guides import Guides, edges
from rerender.propagation.patches.merge import merge
from rerender.propagation.patches.picture import KeyPicture
from rerender.propagation.patches.search import Search, Task, match
from rerender.propagation.patches.tensors import Guesses
from rerender.propagation.patches.votes import vote
from rerender.video import Frame, Segment, Video

BATCH = 8
"""Frames of one direction that are searched together where none needs the one before."""


@dataclass(frozen=True)
class PatchMatch(Propagation):
    """Propagates both key frames by guided patch matching, started from flow (paper section 4.2).

    One level, no pyramid: the match of a patch is where refined flow points to, improved by a few
    candidates, by many only where its cost is high. Patches vote, the votes are merged with the
    warped key frame, and the two directions are blended. It stops early on purpose: the least
    energy fits noise (Barnes et al. 2009; Jamriška et al. 2019 search a hundred times longer).

    Attributes:
        guides: weights of what patches are compared by.
        search: how far they are looked for.
        tolerance: error in levels up to which warp and patches are equally good.
        blend: how the two directions become one.
        backend: where frames are made from flow: ``"numba"`` one patch after the other on the
            processor, each direction in a thread; ``"torch"`` warping, guides, search, votes and
            two-band blending of both directions at once in torch, on the GPU if there is one;
            ``"auto"`` torch on a GPU, else numba in torch's order. Torch's order is a little worse,
            since no match runs along within a pass. The search alone is the same in bytes.
    """

    guides: Guides = field(default_factory=lambda: Guides(style=0.0))
    search: Search = field(default_factory=Search)
    tolerance: Annotated[float, Field(gt=0)] = 3.0
    blend: Blend = field(default_factory=lambda: TwoBand(tolerance=4.0))
    backend: Literal["numba", "torch", "auto"] = "numba"

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        links = link(segment, flow)
        gpu = torch.cuda.is_available()
        if self.backend == "torch" or (self.backend == "auto" and gpu):
            device = torch.device("cuda" if gpu else "cpu")
            yield from self.at_once(segment, links, flow, device)
            return

        def side(key: Frame, frames: Sequence[int]) -> Iterator[Guess]:
            return self.matched(segment.video, key, frames, links, flow)

        yield from join(segment, side, self.blend, links)

    def matched(
        self, video: Video, key: Frame, frames: Sequence[int], links: Links, flow: FlowEstimator
    ) -> Iterator[Guess]:
        """Each of the frames put together from patches of the key frame."""
        picture, before = KeyPicture.of(key, video, self.guides), None
        for stop in follow(video, key.index, frames, links, flow):
            ready = self.ready(picture, stop, before)
            matches = match(self.search, self.guides, ready.task, self.backend != "numba")
            voted = vote(picture.both, matches, stop.target)
            merged = merge(ready.warped, voted, self.tolerance)
            yield merged
            before = merged.image

    def ready(self, picture: KeyPicture, stop: Step, before: Pixels | None) -> Ready:
        """All that can be done before the search of a frame, given the one ``before`` it."""
        offset, target = stop.motion.offset, stop.target
        moved = warped(picture.both, offset, target)
        last = moved.image if before is None else sample(before, stop.link.offset)
        estimate = self.guides.towards(moved.image, last)
        packed = self.guides.pack(estimate, target, edges(target), offset)
        return Ready(moved, Task(picture.guides, packed, offset, stop.index))

    def at_once(
        self, segment: Segment, links: Links, flow: FlowEstimator, device: torch.device
    ) -> Iterator[Tensor]:
        """The frames of a segment, with both directions on the device together."""
        frames = range(segment.start, segment.stop)
        ways = [(segment.left, frames), (segment.right, frames[::-1])]
        lanes = [
            self.lane(segment.video, key, order, links, flow, device) for key, order in ways if key
        ]
        made = self.batches(lanes)
        if segment.right is None:
            yield from (picture(guess.image) for batch in made for guess in batch[0])
            return
        sides: list[list[Guesses]] = [[] for _ in lanes]
        for batch in made:
            for side, guesses in zip(sides, batch, strict=True):
                side += map(halved, guesses)
        right = sides[-1][::-1]
        if segment.left and isinstance(self.blend, TwoBand):
            first, last = segment.left.index, segment.right.index
            for index, *pair in zip(frames, sides[0], right, strict=True):
                time = torch.full((1,), (index - first) / (last - first), device=device)
                left, later = (Guesses(*(part.float() for part in guess)) for guess in pair)
                yield picture(two_band(self.blend, left, later, time))
            return
        left_ = map(stored, sides[0] if segment.left else [])
        yield from blended(segment, left_, [*map(stored, right)], self.blend, links)

    def lane(
        self,
        video: Video,
        key: Frame,
        frames: Sequence[int],
        links: Links,
        flow: FlowEstimator,
        device: torch.device,
    ) -> Lane:
        """One direction, not yet begun."""
        key_picture = KeyPicture.of(key, video, self.guides)
        arrays = key_picture.both, key_picture.guides.packed, key_picture.guides.bare
        both, packed, bare = (batched.stacked([array], device) for array in arrays)
        return Lane(both, packed, bare, follow(video, key.index, frames, links, flow))

    def batches(self, lanes: Sequence[Lane]) -> Iterator[list[list[Guesses]]]:
        """The next frames of every lane: one each where the temporal guide asks for the frame
        before, some more where it does not."""
        count = 1 if self.guides.temporal else BATCH
        before: Tensor | None = None
        while steps := [list(islice(lane.steps, count)) for lane in lanes]:
            if not steps[0]:
                return
            made = self.searched(lanes, steps, before)
            if count == 1:
                before = torch.cat([guesses[-1].image for guesses in made])
            yield made

    def searched(
        self, lanes: Sequence[Lane], steps: Sequence[Sequence[Step]], before: Tensor | None
    ) -> list[list[Guesses]]:
        """A batch of frames of every lane, each ``[1,H,W,...]``; ``before [B,H,W,3]`` are the
        frames that were made last."""
        device = lanes[0].both.device
        count, batch = len(steps[0]), [stop for stops in steps for stop in stops]
        both, packed, bare = (
            torch.cat(parts).repeat_interleave(count, 0)
            for parts in zip(*((lane.both, lane.packed, lane.bare) for lane in lanes), strict=True)
        )
        offset = batched.stacked([stop.motion.offset for stop in batch], device)
        target = batched.stacked([stop.target for stop in batch], device)
        moved = tensors.warped(both, offset, target)
        last = moved.image
        if before is not None:
            link = batched.stacked([stop.link.offset for stop in batch], device)
            planes = before.permute(0, 3, 1, 2), link.permute(0, 3, 1, 2)
            last = warp(*planes, outside="border").permute(0, 2, 3, 1)
        estimate = last
        if self.guides.style:
            share = self.guides.temporal / (self.guides.style + self.guides.temporal)
            estimate = torch.lerp(moved.image, last, share)
        targets = tensors.pack(self.guides, estimate, target, tensors.edges(target), offset)
        frames = [stop.index for stop in batch]
        sources = packed, bare
        matches = batched.matched(self.search, self.guides, frames, sources, targets, offset)
        voted = tensors.settled(batched.vote(both, matches), target)
        merged = tensors.merge(moved, voted, self.tolerance)
        made = [
            Guesses(merged.image[n : n + 1], merged.error[n : n + 1]) for n in range(len(batch))
        ]
        return [made[first : first + count] for first in range(0, len(made), count)]


def halved(guess: Guesses) -> Guesses:
    """A guess in half of its memory (see `StoredDirection`), still on the device."""
    return Guesses(guess.image.half(), guess.error.clamp(max=float(LARGEST)).half())


def stored(guess: Guesses) -> StoredDirection:
    """One halved guess ``[1,H,W,...]`` as arrays."""
    return StoredDirection(guess.image[0].cpu().numpy(), guess.error[0].cpu().numpy())


def picture(image: Tensor) -> Tensor:
    """``[1,H,W,3]`` in levels as an image ``[3,H,W]`` in 0..1 on the processor."""
    return (image[0].permute(2, 0, 1) / 255).clamp(0, 1).contiguous().cpu()


class Ready(NamedTuple):
    """A frame whose patches can be searched, and the key frame warped to it."""

    warped: Guess
    task: Task


class Lane(NamedTuple):
    """One direction on a device: the key frame and the frames that lead away from it.

    Attributes:
        both, packed, bare: of `KeyPicture` and its guides, ``[1,H+4,W+4,...]``.
        steps: the frames.
    """

    both: Tensor
    packed: Tensor
    bare: Tensor
    steps: Iterator[Step]
