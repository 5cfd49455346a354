"""How the two propagated versions of a frame become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rerender.propagation.chain import Motion
from rerender.propagation.pixels import Pixels

LARGEST_ODDS = 30.0
"""Log odds beyond which a weight is 0 or 1 in float32 anyway."""


class Guess(NamedTuple):
    """A frame as one key frame would have it.

    Attributes:
        image: ``[H,W,3]`` in levels.
        error: ``[H,W]`` how far the source, moved the same way, is from the source frame: mean
            squared levels of a colour channel.
    """

    image: Pixels
    error: NDArray[np.float32]


class Pair(NamedTuple):
    """A frame as its two key frames would have it.

    Attributes:
        left: by the key frame before it.
        right: by the key frame after it.
        time: its place between the two, 0 at the left and 1 at the right.
        back: its motion to the frame before it.
    """

    left: Guess
    right: Guess
    time: float
    back: Motion


class Blend(ABC):
    """Turns the two versions of every frame of a segment into one."""

    @abstractmethod
    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        """One image ``[H,W,3]`` in levels for each pair, in order."""


@dataclass(frozen=True)
class Linear(Blend):
    """A cross-fade in time that does not look at errors."""

    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        for pair in pairs:
            yield mix(pair, np.full(pair.left.error.shape, pair.time, np.float32))


@dataclass(frozen=True)
class Soft(Blend):
    """A cross-fade in time that leans to the version with the smaller error.

    The odds of the right version are ``t / (1 - t) * exp((e_left - e_right) / (4 s^2))``.

    Attributes:
        tolerance: s, the error in levels that is still noise.
    """

    tolerance: Annotated[float, Field(gt=0)] = 12.0

    def run(self, pairs: Iterable[Pair]) -> Iterator[Pixels]:
        for pair in pairs:
            yield mix(pair, share(pair, self.tolerance))


def mix(pair: Pair, right: NDArray[np.float32]) -> Pixels:
    """The weighted mean of both versions, ``right [H,W]`` being the weight of the right one."""
    return pair.left.image + right[..., None] * (pair.right.image - pair.left.image)


def share(pair: Pair, tolerance: float) -> NDArray[np.float32]:
    """The weight ``[H,W]`` of the right version under soft error weighting."""
    odds = (pair.left.error - pair.right.error) * np.float32(0.25 / tolerance**2)
    odds += np.float32(np.log(pair.time / (1 - pair.time)))
    np.clip(odds, -LARGEST_ODDS, LARGEST_ODDS, out=odds)
    weight: NDArray[np.float32] = 1 / (1 + np.exp(-odds))
    return weight
