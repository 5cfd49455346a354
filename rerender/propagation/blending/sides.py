"""A segment's two directions run side by side, or one after the other where frames are large, and
become one; with one key frame, one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rerender.propagation.blending.blend import Bidirectional, Blend, Guess
from rerender.propagation.motion import pixels
from rerender.propagation.motion.chain import Links
from rerender.propagation.motion.workers import workers
from rerender.video import Frame, Segment

Side = Callable[[Frame, Sequence[int]], Iterator[Guess]]
"""``side(key, frames)``: each frame as the key frame would have it; they lead away from the key."""


SIDE_BY_SIDE = 1 << 20
"""Pixels of a frame up to which both directions run at the same time; of larger frames the memory
that one direction works in is more than all it hands on."""

LARGEST = np.float32(60000)
"""Squared levels beyond which errors are not told apart: half precision ends there."""


class StoredDirection(NamedTuple):
    """A `Guess` in half of its memory, off by a sixteenth of a level at most.

    Attributes:
        image, error: in float16.
        detail: as it was.
    """

    image: NDArray[np.float16]
    error: NDArray[np.float16]
    detail: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, guess: Guess) -> StoredDirection:
        """What is kept of a guess."""
        error = pixels.half(np.minimum(guess.error, LARGEST))
        return cls(pixels.half(guess.image), error, guess.detail)

    def guess(self) -> Guess:
        """The guess again."""
        return Guess(pixels.single(self.image), pixels.single(self.error), self.detail)


def join(segment: Segment, side: Side, blend: Blend, links: Links) -> Iterator[Tensor]:
    """The frames of a segment ``[3,H,W]`` in 0..1, in order; with a left key frame alone each is
    handed out as soon as it is made."""
    frames = range(segment.start, segment.stop)
    if segment.right is None:
        assert segment.left is not None
        for guess in side(segment.left, frames):
            yield pixels.image(guess.image)
        return

    def kept(key: Frame, order: Sequence[int]) -> list[StoredDirection]:
        return list(map(StoredDirection.of, side(key, order)))

    later = workers().submit(kept, segment.right, frames[::-1])
    left: Iterable[StoredDirection] = ()
    if segment.left is not None:
        height, width = segment.video.size
        if height * width > SIDE_BY_SIDE:
            later.exception()  # only to wait; it is raised below
            links.forget_after()
            left = map(StoredDirection.of, side(segment.left, frames))
        else:
            left = workers().submit(kept, segment.left, frames).result()
    yield from blended(segment, left, later.result()[::-1], blend, links)


def blended(
    segment: Segment,
    left: Iterable[StoredDirection],
    right: list[StoredDirection],
    blend: Blend,
    links: Links,
) -> Iterator[Tensor]:
    """The frames of both directions as one; those of the right key frame alone as they are. What
    has been blended is let go; nothing is held by a loop while the next frame is made."""
    right.reverse()
    later = (right.pop().guess() for _ in range(len(right)))
    if segment.left is None:
        yield from (pixels.image(guess.image) for guess in later)
    else:
        earlier = map(StoredDirection.guess, left)
        yield from map(pixels.image, blend.run(pairs(segment, earlier, later, links)))


def pairs(
    segment: Segment, left: Iterator[Guess], right: Iterator[Guess], links: Links
) -> Iterator[Bidirectional]:
    """The two versions of each frame with its place in time."""
    assert segment.left is not None and segment.right is not None
    first, last = segment.left.index, segment.right.index
    for index in range(segment.start, segment.stop):
        time = (index - first) / (last - first)
        yield Bidirectional(next(left), next(right), time, links.before(index))
