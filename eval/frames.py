"""A folder of pictures as a Video: what most methods leave behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from rerender.errors import InputError
from rerender.video import Video

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Frames(Video):
    """Pictures in the order of the numbers in their names, at a given rate.

    Args:
        folder: holds pictures of one size, 8 or 16 bit.
        rate: frames per second; pictures have no time of their own.

    Raises:
        InputError: no pictures, or one that cannot be read or has another size.
    """

    def __init__(self, folder: Path, rate: Fraction = Fraction(25)) -> None:
        self.files = listed(folder)
        if not self.files:
            raise InputError(folder, "holds no pictures", f"give {', '.join(KINDS)} files")
        self._timestamps = tuple(index / rate for index in range(len(self.files)))
        height, width = _read(self.files[0]).shape[:2]
        self._size = (height, width)

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self._timestamps

    def __getitem__(self, index: int) -> Tensor:
        file = self.files[index]
        pixels = _read(file)
        if pixels.shape[:2] != self._size:
            height, width = self._size
            problem = f"is {pixels.shape[1]}x{pixels.shape[0]} and the first {width}x{height}"
            raise InputError(file, problem, "make all frames of one size")
        scale = float(np.iinfo(pixels.dtype).max)
        rgb = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1), np.float32)
        return torch.from_numpy(rgb / scale)


def listed(folder: Path) -> list[Path]:
    """The pictures of a folder, ordered by the numbers in their names (9 before 10)."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in KINDS)
    return sorted((path for path in found if path.is_file()), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part) if part.isdigit() else 0, part) for part in parts]


def _read(file: Path) -> np.ndarray:
    data = np.frombuffer(file.read_bytes(), np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    pixels = cv2.imdecode(data, flags) if data.size else None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(file, "is not a picture", "make the frame again")
    return np.asarray(pixels)
