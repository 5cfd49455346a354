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
from rerender.propagation.blending.blend import Blend, Guess, TwoBand
from rerender.propagation.blending.sides import StoredDirection, blended, join
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import Links, Step, follow, link
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches import batched
from rerender.propagation.patches.cubic import warped
from rerender.propagation.patches.guides import Guides, edges
from rerender.propagation.patches.merge import merge
from rerender.propagation.patches.picture import KeyPicture
from rerender.propagation.patches.search import Search, Task, match
from rerender.propagation.patches.votes import settled, vote
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
        backend: what searches: ``"numba"`` one patch after the other on the processor, each
            direction in a thread; ``"torch"`` all patches of both directions at once, on the GPU
            if there is one; ``"auto"`` torch on a GPU, else numba in torch's order. Torch's order
            is a little worse, since no match runs along within a pass; it is the same everywhere.
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
        """The frames of a segment, with the patches of both directions searched together."""
        frames = range(segment.start, segment.stop)
        ways = [(segment.left, frames), (segment.right, frames[::-1])]
        lanes = [self.lane(segment.video, key, order, links, flow) for key, order in ways if key]
        made = self.batches(lanes, device)
        if segment.right is None:
            yield from (pixels.image(guess.image) for batch in made for guess in batch[0])
            return
        sides: list[list[StoredDirection]] = [[] for _ in lanes]
        for batch in made:
            for side, guesses in zip(sides, batch, strict=True):
                side += map(StoredDirection.of, guesses)
        left = sides[0] if segment.left else []
        yield from blended(segment, left, sides[-1][::-1], self.blend, links)

    def lane(
        self, video: Video, key: Frame, frames: Sequence[int], links: Links, flow: FlowEstimator
    ) -> Lane:
        """One direction, not yet begun."""
        steps = follow(video, key.index, frames, links, flow)
        return Lane(KeyPicture.of(key, video, self.guides), steps)

    def batches(self, lanes: Sequence[Lane], device: torch.device) -> Iterator[list[list[Guess]]]:
        """The next frames of every lane: one each where the temporal guide asks for the frame
        before, some more where it does not."""
        count = 1 if self.guides.temporal else BATCH
        before: list[Pixels | None] = [None] * len(lanes)
        while steps := [list(islice(lane.steps, count)) for lane in lanes]:
            if not steps[0]:
                return
            made = self.searched(lanes, steps, before, device)
            before = [guesses[-1].image for guesses in made] if count == 1 else before
            yield made

    def searched(
        self,
        lanes: Sequence[Lane],
        steps: Sequence[Sequence[Step]],
        before: Sequence[Pixels | None],
        device: torch.device,
    ) -> list[list[Guess]]:
        """A batch of frames of every lane."""
        found: list[list[Guess]] = [[] for _ in lanes]
        batch = [(lane, stop) for lane, stops in enumerate(steps) for stop in stops]
        ready = [self.ready(lanes[lane].picture, stop, before[lane]) for lane, stop in batch]
        both = [lanes[lane].picture.both for lane, _ in batch]
        tasks = [item.task for item in ready]
        sums = batched.synthesise(self.search, self.guides, tasks, both, device)
        for (lane, stop), item, total in zip(batch, ready, sums, strict=True):
            voted = settled(total, stop.target)
            found[lane].append(merge(item.warped, voted, self.tolerance))
        return found


class Ready(NamedTuple):
    """A frame whose patches can be searched, and the key frame warped to it."""

    warped: Guess
    task: Task


class Lane(NamedTuple):
    """One direction: the key frame and the frames that lead away from it."""

    picture: KeyPicture
    steps: Iterator[Step]
