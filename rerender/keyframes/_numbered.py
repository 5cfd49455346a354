"""A folder of key frames made elsewhere, each named by its frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rerender.data.names import RULE, frame_numbers
from rerender.data.pictures import is_picture, listed, passed_over
from rerender.errors import InputError

KEYS_HELP = f"pictures named by their frames: {RULE}"
SKEW = 0.02
"""Key frames may be this much wider or narrower than the video."""


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


def check_shape(folder: Path, size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Refuse key frames of another aspect than the video.

    Args:
        folder: holds them.
        size: their (height, width).
        shape: (height, width) at which the video is shown.

    Raises:
        InputError: naming the folder.
    """
    (height, width), (tall, wide) = size, shape
    if abs(width * tall / (height * wide) - 1) > SKEW:
        problem = f"key frames are {width}x{height}, the video is {wide}x{tall}"
        raise InputError(folder, problem, "give both the same shape")
