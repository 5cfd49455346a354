"""Floors: methods that need no diffusion, without which no table can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from rerender.video import Clip, Truth, Video

if TYPE_CHECKING:  # who only needs the names waits for no torch
    from torch import Tensor

    from rerender.contracts import Model

SOURCE, VAE, TRUTH = "source", "VAE round trip", "true translation"


@dataclass(frozen=True)
class Made(Video):
    """A video with the timing of another, whose frames are made when they are read.

    Attributes:
        like: gives count, times and size.
        make: frame number -> image ``[3,H,W]``.
    """

    like: Video
    make: Callable[[int], Tensor]

    @property
    def size(self) -> tuple[int, int]:
        return self.like.size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self.like.timestamps

    @property
    def end(self) -> Fraction:
        return self.like.end

    def __getitem__(self, index: int) -> Tensor:
        return self.make(index)


def source(clip: Clip) -> Video:
    """The source as if it were a result: consistent, and no edit at all."""
    return clip.video


def translation(clip: Clip) -> Video | None:
    """The true translation as if it were a result: the best there is; None where unknown."""
    truth = clip.truth
    if truth is None or truth.translation(0) is None:
        return None
    return Made(clip.video, lambda index: _known(truth, index))


def round_trip(clip: Clip, model: Model) -> Video:
    """Each source frame encoded and decoded: what the autoencoder alone does to a video."""

    def make(index: int) -> Tensor:
        image = clip.video[index]
        return model.decode(model.encode(image)).float().cpu().clamp(0, 1)

    return Made(clip.video, make)


def _known(truth: Truth, index: int) -> Tensor:
    image = truth.translation(index)
    if image is None:
        raise ValueError(f"the true translation of frame {index} is not known")
    return image
