"""Frames at the size a model works at, and results back at the size the source asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.errors import ConfigError
from rerender.video import Clip, Video, sha256_of

_KEPT = 16  # resized frames held in memory


def fit(video: Video, short_side: int, multiple: int) -> Video:
    """The video with frames a model can process: every side a multiple, the short one near a size.

    The long side is rounded to the nearest multiple too, so that the aspect may be off by part of
    one; ``output_size`` keeps the source's aspect, in even numbers.

    Args:
        video: the source.
        short_side: wanted length of the shorter side in pixels.
        multiple: what both sides must be multiples of.

    Returns:
        The resized view, or ``video`` itself where nothing changes.

    Raises:
        ConfigError: ``short_side`` is less than half of ``multiple``.
    """
    if 2 * short_side < multiple:
        problem = f"the model needs sides that are multiples of {multiple}, received {short_side}"
        raise ConfigError("data.size", problem, f"take at least {multiple}")
    shape = video.output_size  # the aspect that is meant, whatever was fitted before
    size, output = fitted_size(shape, short_side, multiple), fitted_size(shape, short_side, 2)
    if size == video.size and output == video.output_size:
        return video
    return FittedVideo(video, size, output)


def fit_clip(clip: Clip, short_side: int, multiple: int, full: bool = False) -> Clip:
    """The clip with frames a model can process (see `fit`).

    Args:
        clip: the source and what is asked of it.
        short_side: wanted length of the shorter side in pixels.
        multiple: what both sides must be multiples of.
        full: make the result at the size of the source. Where that is the size at which it is
            processed, nothing changes.
    """
    video = fit(clip.video, short_side, multiple)
    differs = full and video.size != clip.video.size
    return replace(clip, video=video, full=clip.video if differs else None)


def to_output(image: Tensor, video: Video) -> Tensor:
    """A result ``[3,H,W]`` at the size that the video is to be shown at."""
    return resize(image, video.output_size)


def shown(video: Video) -> Video:
    """The source at the size that a result is shown at."""
    if video.size == video.output_size:
        return video
    size, inner = video.output_size, video.unfitted if isinstance(video, FittedVideo) else video
    return inner if inner.size == size == inner.output_size else FittedVideo(inner, size, size)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image ``[C,H,W]`` in 0..1 at (height, width): area means where a side shrinks, cubic
    interpolation where it grows (clipped to 0..1, since cubic curves overshoot)."""
    height, width = image.shape[-2:]
    smaller = (min(size[0], height), min(size[1], width))
    if smaller != (height, width):
        image = _shrunk(image, smaller)
    if smaller != size:
        # With antialias=True the cubic is the one that keeps straight ramps straight (a = -0.5).
        image = F.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
        image = image.clamp(0, 1)
    return image


def _shrunk(image: Tensor, size: tuple[int, int]) -> Tensor:
    pixels = np.ascontiguousarray(image.detach().float().cpu().permute(1, 2, 0).numpy())
    small = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    channels = small.reshape(*size, -1).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels)).clamp_(0, 1)


class FittedVideo(Video):
    """A video whose frames are resized when they are read; ``fit`` makes one."""

    def __init__(self, video: Video, size: tuple[int, int], output_size: tuple[int, int]) -> None:
        self._video, self._size, self._output_size = video, size, output_size
        self._read = lru_cache(_KEPT)(self._resized)

    @property
    def unfitted(self) -> Video:
        """The video that frames are read from."""
        return self._video

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @property
    def output_size(self) -> tuple[int, int]:
        return self._output_size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self._video.timestamps

    @property
    def end(self) -> Fraction:
        return self._video.end

    @property
    def audio(self) -> Path | None:
        return self._video.audio

    @property
    def transparent(self) -> bool:
        return self._video.transparent

    def alpha(self, index: int) -> Tensor:
        return resize(self._video.alpha(index), self._output_size)

    def __getitem__(self, index: int) -> Tensor:
        return self._read(index)

    def digest(self) -> str:
        sizes = repr((self._size, self._output_size))
        return sha256_of(self._video.digest().encode(), sizes.encode())

    def _resized(self, index: int) -> Tensor:
        return resize(self._video[index], self._size)


def fitted_size(shape: tuple[int, int], short_side: int, multiple: int) -> tuple[int, int]:
    """(height, width) in multiples that are closest to a shape of a given short side."""
    sides = (Fraction(side * short_side, min(shape) * multiple) for side in shape)
    height, width = (max(int(side + Fraction(1, 2)), 1) * multiple for side in sides)
    return height, width
