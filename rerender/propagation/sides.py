"""A segment's two directions run side by side, then become one; with one key frame, one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from rerender.propagation import pixels
from rerender.propagation.blend import Blend, Guess, Pair
from rerender.propagation.chain import Links
from rerender.propagation.workers import workers
from rerender.video import Frame, Segment

Side = Callable[[Frame, Sequence[int]], Iterator[Guess]]
"""``side(key, frames)``: each frame as the key frame would have it; they lead away from the key."""


def join(segment: Segment, side: Side, blend: Blend, links: Links) -> Iterator[Tensor]:
    """The frames of a segment ``[3,H,W]`` in 0..1, in order; with a left key frame alone each is
    handed out as soon as it is made."""
    if segment.left is not None and segment.right is None:
        for guess in side(segment.left, range(segment.start, segment.stop)):
            yield pixels.image(guess.image)
        return
    yield from blended(segment, *both(segment, side), blend, links)


def blended(
    segment: Segment, left: list[Guess], right: list[Guess], blend: Blend, links: Links
) -> Iterator[Tensor]:
    """The frames of both directions as one; those of the right key frame alone as they are."""
    if left:
        for blended in blend.run(pairs(segment, left, right, links)):
            yield pixels.image(blended)
    else:
        for guess in right:
            yield pixels.image(guess.image)


def both(segment: Segment, side: Side) -> tuple[list[Guess], list[Guess]]:
    """What each key frame makes of the frames, in order of time; nothing where there is no key."""
    frames = range(segment.start, segment.stop)

    def work(key: Frame | None, order: Sequence[int]) -> list[Guess]:
        return [] if key is None else list(side(key, order))

    left = workers().submit(work, segment.left, frames)
    right = workers().submit(work, segment.right, frames[::-1])
    return left.result(), right.result()[::-1]


def pairs(
    segment: Segment, left: Sequence[Guess], right: Sequence[Guess], links: Links
) -> Iterator[Pair]:
    """The two versions of each frame with its place in time."""
    assert segment.left is not None and segment.right is not None
    first, last = segment.left.index, segment.right.index
    frames = range(segment.start, segment.stop)
    for index, a, b in zip(frames, left, right, strict=True):
        yield Pair(a, b, (index - first) / (last - first), links.before(index))
