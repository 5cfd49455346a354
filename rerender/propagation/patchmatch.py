"""Flow-started PatchMatch: patches verify flow, correct it, and search where it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.flow.sample import sample
from rerender.propagation.blend import Blend, Guess, TwoBand
from rerender.propagation.chain import Links, Step, follow, link
from rerender.propagation.guides import Guides, bare, edges
from rerender.propagation.merge import merge
from rerender.propagation.picture import Picture, warped
from rerender.propagation.pixels import Pixels
from rerender.propagation.search import Guided, Search, Start, match
from rerender.propagation.sides import join
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
    """

    guides: Guides = field(default_factory=lambda: Guides(style=0.0))
    search: Search = field(default_factory=Search)
    tolerance: Annotated[float, Field(gt=0)] = 3.0
    blend: Blend = field(default_factory=lambda: TwoBand(tolerance=4.0))

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        links = link(segment, flow)

        def side(key: Frame, frames: Sequence[int]) -> Iterator[Guess]:
            return self.matched(segment.video, key, frames, links, flow)

        yield from join(segment, side, self.blend, links)

    def matched(
        self, video: Video, key: Frame, frames: Sequence[int], links: Links, flow: FlowEstimator
    ) -> Iterator[Guess]:
        """Each of the frames put together from patches of the key frame."""
        picture, before = Picture.of(key, video, self.guides), None
        for stop in follow(video, key.index, frames, links, flow):
            ready = self.ready(picture, stop, before)
            matches = match(self.search, self.guides, picture.guided, ready.guided, ready.start)
            voted = picture.voted(matches, self.search.stride, stop.target)
            merged = merge(ready.warped, voted, self.tolerance)
            yield merged
            before = merged.image

    def ready(self, picture: Picture, stop: Step, before: Pixels | None) -> Ready:
        """All that can be done before the search of a frame, given the one ``before`` it."""
        offset, target = stop.motion.offset, stop.target
        moved = warped(picture.both, offset, target)
        last = moved.image if before is None else sample(before, stop.link.offset)
        estimate = self.guides.towards(moved.image, last)
        packed = self.guides.pack(estimate, target, edges(target), offset)
        return Ready(moved, Guided(packed, bare(packed)), Start(offset, stop.index))


class Ready(NamedTuple):
    """A frame whose patches can be searched.

    Attributes:
        warped: the key frame warped to it.
        guided: its guides.
        start: where the search begins.
    """

    warped: Guess
    guided: Guided
    start: Start
