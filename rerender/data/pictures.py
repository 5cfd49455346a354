"""A sequence of picture files as a Video."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rerender.errors import ConfigError, InputError
from rerender.video import Video, sha256_of

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "MPO")
_KEPT = 8


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name; hidden files are not."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


class Pictures(Video):
    """Frames from picture files, eight bits per channel, turned as their EXIF tag says.

    Args:
        files: one picture for each frame, in order.
        rate: frames per second.
        start: first frame.
        frames: number of frames; None means to the end.

    Raises:
        ConfigError: the window is not inside the sequence.
        InputError: a picture is damaged or of another size than the first.
    """

    def __init__(
        self, files: Sequence[Path], rate: float, start: int = 0, frames: int | None = None
    ) -> None:
        total = len(files)
        stop = total if frames is None else start + frames
        if not 0 <= start < stop <= total:
            key = "data.start" if start >= total else "data.frames"
            problem = (
                f"frames {start} to {stop - 1} are not in {files[0].parent}, which has {total}"
            )
            raise ConfigError(key, problem, "choose others")
        self._files = tuple(files[start:stop])
        self._rate = exact_rate(rate)
        self._read = lru_cache(_KEPT)(lambda index: _load(self._files[index]))
        self._size = self._checked()

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return tuple(index / self._rate for index in range(len(self._files)))

    @property
    def end(self) -> Fraction:
        return len(self._files) / self._rate

    def digest(self) -> str:
        return sha256_of(str(self._rate).encode(), *(file.read_bytes() for file in self._files))

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self._files):
            raise IndexError(f"frame {index} of {len(self._files)}")
        return self._read(index)

    def _checked(self) -> tuple[int, int]:
        """Decode every picture once, so that a damaged one is found before anything starts."""
        height, width = self._read(0).shape[-2:]
        for index, file in enumerate(self._files):
            found = self._read(index).shape[-2:]
            if found != (height, width):
                problem = f"is {found[1]}x{found[0]}, {self._files[0].name} is {width}x{height}"
                raise InputError(file, problem, "give frames of one size")
        return height, width


def exact_rate(rate: float) -> Fraction:
    """The frame rate that a decimal number means: 23.976 is 24000/1001."""
    broadcast = Fraction(round(rate) * 1000, 1001)
    if rate != round(rate) and abs(broadcast - Fraction(rate)) < rate * 2e-4:
        return broadcast
    return Fraction(rate).limit_denominator(1000)


def _load(path: Path) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                upright = ImageOps.exif_transpose(picture)
                array = np.array(_in_rgb(upright), np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise InputError(path, f"cannot be read as a picture ({error})", "replace it") from error
    return torch.from_numpy(array).permute(2, 0, 1).div(255).contiguous()


def _in_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        grey = np.asarray(picture, np.float64) / 257
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")
