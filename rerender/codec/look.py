"""How the frames of a stream are meant to be seen: pixel shape, rotation, mirroring."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from rerender.codec.color import alpha_of, has_alpha, is_known, is_transparent, to_rgb
from rerender.codec.container import MAX_PIXELS
from rerender.codec.gamut import said
from rerender.errors import InputError

CLEAR = "what is transparent is laid over black"  # said of a file
_TURNS = {1: (True, (1,)), 2: (False, (2, 1)), 3: (True, (2,))}  # by quarters, counterclockwise
_UNUSUAL = {8: "linear", 9: "logarithmic", 10: "logarithmic", 17: "SMPTE 428"}  # curves


class Look(NamedTuple):
    """How decoded frames become pictures.

    Attributes:
        coded: (height, width) as decoded.
        square: (height, width) once pixels are square.
        transpose: whether rows and columns change places, before any flip.
        flips: dimensions of ``[3,H,W]`` to flip.
    """

    coded: tuple[int, int]
    square: tuple[int, int]
    transpose: bool
    flips: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as shown."""
        return (self.square[1], self.square[0]) if self.transpose else self.square

    def picture(self, frame: Any) -> Tensor:
        """A decoded frame as it is meant to be seen, ``[3,H,W]``."""
        return self._turned(to_rgb(frame, self.square))

    def alpha(self, frame: Any) -> Tensor:
        """Its alpha, ``[1,H,W]`` in 0..1."""
        return self._turned(alpha_of(frame, self.square))

    def _turned(self, image: Tensor) -> Tensor:
        image = image.transpose(1, 2) if self.transpose else image
        return (image.flip(self.flips) if self.flips else image).contiguous()


def look_of(frame: Any, stream: Any, path: Path) -> Look:
    """Read shape, pixel shape, rotation and colour matrix off the first frame of a stream.

    Raises:
        InputError: the matrix is not one of ours, or square pixels would be more than 8K.
    """
    if not is_known(frame):
        problem = f"has a colour matrix that is not supported (H.273 number {frame.colorspace})"
        raise InputError(path, problem, "convert it to BT.709 first")
    height, width = frame.height, frame.width
    ratio = Fraction(stream.sample_aspect_ratio or 1)
    if ratio > 1:
        square = (height, max(round(width * ratio), 1))
    else:
        square = (max(round(height / ratio), 1), width)
    if square[0] * square[1] > MAX_PIXELS:
        problem = f"has frames of {square[1]}x{square[0]} pixels, 8K is the most that is read"
        raise InputError(path, problem, "scale it down first")
    transpose, flips = _orientation(frame)
    return Look((height, width), square, transpose, flips)


def _orientation(frame: Any) -> tuple[bool, tuple[int, ...]]:
    """(transpose, flips) of a display matrix, which maps (x, y) to (ax + cy, bx + dy)."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know every kind of data that may lie beside it
        return _TURNS.get(round(frame.rotation / 90) % 4, (False, ()))
    if data is None:
        return False, ()
    a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].tolist()
    transpose = abs(b) > abs(a)
    across, down = (c, b) if transpose else (a, d)
    return transpose, tuple(axis for axis, sign in ((2, across), (1, down)) if sign < 0)


def lost(frame: Any) -> set[str]:
    """What reading a decoded frame loses or changes, in words for a warning.

    Args:
        frame: the decoder's frame.
    """
    words = set()
    if frame.interlaced_frame:
        words.add("it is marked as interlaced; its two fields are read as one picture")
    if has_alpha(frame) and is_transparent(frame):
        words.add(CLEAR)
    if change := said(frame.color_trc, frame.color_primaries):
        words.add(change)
    if name := _UNUSUAL.get(frame.color_trc):
        words.add(f"its {name} transfer curve is read as that of BT.709")
    if frame.colorspace == 10:
        words.add("its constant luminance is read as the usual BT.2020")
    if frame.colorspace in (0, 3) and not frame.format.is_rgb:
        words.add(f"its colour matrix (H.273 number {frame.colorspace}) is read as if it had none")
    return words
