"""A folder of key frames made elsewhere, each named by its frame."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from pathlib import Path

from rerender.data.names import RULE, frame_numbers, is_picture, listed
from rerender.data.pictures import passed_over
from rerender.errors import InputError

KEYS_HELP = f"pictures named by their frames: {RULE}"
SKEW = 0.02
"""Key frames may be this much wider or narrower than the video."""
MULTIPLE = 64
"""The largest multiple that models want sides to be of."""


def numbered(folder: Path, first: int = 0, setting: str = "--first") -> Mapping[int, Path]:
    """The pictures of a folder by their frame, in order (see `rerender.data.names.RULE`).

    Args:
        folder: holds the key frames; what else lies there is passed over with a warning.
        first: the number that names give the first frame of the video.
        setting: what sets it, for messages.

    Raises:
        InputError: no such folder, no picture, one whose frame is not clear, or two of one frame.
    """
    inside = listed(folder)
    paths = [path for path in inside if is_picture(path)]
    if not paths:
        raise InputError(folder, "holds no pictures", f"put key frames there: {KEYS_HELP}")
    passed_over(folder, (path for path in inside if path not in paths))
    return frame_numbers(paths, first, setting)


def check_inside(
    paths: Mapping[int, Path], length: int, first: int, setting: str = "--first 1"
) -> None:
    """Refuse key frames of frames that the video has not.

    Args:
        paths: pictures by their frame.
        length: number of frames of the video.
        first: as for `numbered`.
        setting: what says that names count from 1, for messages.

    Raises:
        InputError: naming the first of them.
    """
    beyond = [index for index in paths if index >= length]
    if beyond:
        problem = f"is of frame {beyond[0]}, the video has frames 0 to {length - 1}"
        one_more = first == 0 and beyond == [length] and 0 not in paths
        cure = f"say {setting} if names count from 1" if one_more else "remove or rename it"
        raise InputError(paths[beyond[0]], problem, cure)


def skewed(size: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Whether two (height, width) are of different aspect."""
    return abs(size[1] * shape[0] / (size[0] * shape[1]) - 1) > SKEW


def rounded(size: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Whether a (height, width) is a shape at some size, its long side brought to a multiple."""
    multiple = gcd(*size, MULTIPLE)
    upright = (size[0] <= size[1]) == (shape[0] <= shape[1])
    wanted = min(size) * max(shape) / min(shape)
    return upright and multiple >= 8 and abs(max(size) - wanted) <= multiple / 2


def check_shape(folder: Path, size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Refuse key frames of another aspect than the video. Those that a run has left are of the size
    that its model worked at, whose sides are multiples of 8 to 64: they may miss the aspect by half
    of one.

    Args:
        folder: holds them.
        size: their (height, width).
        shape: (height, width) at which the video is shown.

    Raises:
        InputError: naming the folder.
    """
    (height, width), (tall, wide) = size, shape
    if skewed(size, shape) and not rounded(size, shape):
        problem = f"key frames are {width}x{height}, the video is {wide}x{tall}"
        raise InputError(folder, problem, "give both the same shape")
