"""Flow-started PatchMatch: patches verify flow, correct it, and search where it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.flow._sample import sample
from rerender.propagation.blending.blend import Blend, Guess, TwoBand
from rerender.propagation.blending.sides import join
from rerender.propagation.blending.texture import taken
from rerender.propagation.lanes import Lanes
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import Links, Step, follow, link
from rerender.propagation.motion.pixels import Pixels
from rerender.propagation.patches.cubic import warped
from rerender.propagation.patches.guides import Guides, edges
from rerender.propagation.patches.merge import merge
from rerender.propagation.patches.picture import KeyPicture
from rerender.propagation.patches.search import Search, Task, match
from rerender.propagation.patches.votes import vote
from rerender.video import Frame, Segment, Video


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
        backend: ``"numba"`` one patch after the other on the processor, each direction in a thread;
            ``"torch"`` both directions at once in torch, on the GPU if there is one, with flow,
            light and refinement where the estimator works on batches (`flow.dis_torch`);
            ``"auto"`` torch on a GPU, else numba in torch's order. Torch's order is a little worse,
            since no match runs along within a pass. The search alone is the same in bytes.
    """

    guides: Guides = field(default_factory=lambda: Guides(style=0.0))
    search: Search = field(default_factory=Search)
    tolerance: Annotated[float, Field(gt=0)] = 3.0
    blend: Blend = field(default_factory=lambda: TwoBand(tolerance=4.0))
    backend: Literal["numba", "torch", "auto"] = "numba"

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        lanes = self.lanes()
        if lanes:
            yield from lanes.fill([segment], flow)
            return
        links = link(segment, flow)

        def side(key: Frame, frames: Sequence[int]) -> Iterator[Guess]:
            return self.matched(segment.video, key, frames, links, flow)

        yield from join(segment, side, self.blend, links)

    def batches(self) -> bool:
        return self.lanes() is not None

    def fill_all(self, segments: Sequence[Segment], flow: FlowEstimator) -> Iterator[Tensor]:
        lanes = self.lanes()
        yield from lanes.fill(segments, flow) if lanes else super().fill_all(segments, flow)

    def lanes(self) -> Lanes | None:
        """How frames are made in torch; None where that is not asked for."""
        gpu = torch.cuda.is_available()
        if self.backend == "numba" or (self.backend == "auto" and not gpu):
            return None
        device = torch.device("cuda" if gpu else "cpu")
        return Lanes(self.guides, self.search, self.tolerance, self.blend, device)

    def matched(
        self, video: Video, key: Frame, frames: Sequence[int], links: Links, flow: FlowEstimator
    ) -> Iterator[Guess]:
        """Each of the frames put together from patches of the key frame."""
        picture, before = KeyPicture.of(key, video, self.guides), None
        detail = self.blend.detail(pixels.levels(key.image))
        for stop in follow(video, key.index, frames, links, flow):
            ready = self.ready(picture, stop, before)
            matches = match(self.search, self.guides, ready.task, self.backend != "numba")
            voted = vote(picture.both, matches, stop.target)
            merged = merge(ready.warped, voted, self.tolerance)
            before = merged.image
            if detail is not None:
                merged = merged._replace(detail=taken(detail, matches))
            del stop, ready, matches, voted  # others work before the next frame is asked for
            yield merged
            del merged

    def ready(self, picture: KeyPicture, stop: Step, before: Pixels | None) -> Ready:
        """All that can be done before the search of a frame, given the one ``before`` it."""
        offset, target = stop.motion.offset, stop.target
        moved = warped(picture.both, offset, target)
        last = moved.image if before is None else sample(before, stop.link.offset)
        estimate = self.guides.towards(moved.image, last)
        packed = self.guides.pack(estimate, target, edges(target), offset)
        return Ready(moved, Task(picture.guides, packed, offset, stop.index))


class Ready(NamedTuple):
    """A frame whose patches can be searched, and the key frame warped to it."""

    warped: Guess
    task: Task
