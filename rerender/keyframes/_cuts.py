"""How much the picture changes from frame to frame, and where one shot ends and the next begins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rerender.fitting import resize
from rerender.video import Video

Array = npt.NDArray[np.float32]
_SIDE = 24  # thumbnails this small see what moved far and blur what moved little
_AROUND = 5  # frames on either side that say how restless the shot is


def thumbnails(video: Video) -> Array:
    """Every frame as a tiny picture, ``[N,3,24,24]`` in 0..1."""
    return np.stack([thumbnail(video[index]) for index in range(len(video))])


def thumbnail(image: Tensor) -> Array:
    """A frame ``[3,H,W]`` as a tiny picture, ``[3,24,24]``."""
    small: Array = resize(image, (_SIDE, _SIDE)).cpu().numpy()
    return small


def change(pictures: Array) -> Array:
    """Mean absolute difference of each frame to the one before it, ``[N]``; 0 for the first."""
    steps = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))
    return np.concatenate([np.zeros(1, np.float32), steps])


def find_cuts(pictures: Array, ratio: float, floor: float) -> list[int]:
    """Frames that begin a new shot.

    A cut is a change that lasts (a flash goes back to what was before, a cut does not), is at least
    ``floor``, and at least ``ratio`` times the mean change of the frames around it.

    Args:
        pictures: ``[N,3,h,w]`` from ``thumbnails``.
        ratio: how much a cut stands out from the motion around it.
        floor: the least mean absolute difference of a cut, in 0..1.

    Returns:
        Increasing indices, without 0.
    """
    steps = change(pictures)
    lasting = _lasting(pictures, steps)
    return [
        index
        for index in range(1, len(steps))
        if lasting[index] >= floor and lasting[index] >= ratio * _restlessness(steps, index)
    ]


def shots(length: int, cuts: list[int]) -> list[range]:
    """The ranges of frames between cuts."""
    borders = [0, *cuts, length]
    return [range(a, b) for a, b in pairwise(borders)]


def _lasting(pictures: Array, steps: Array) -> Array:
    """The part of each change that is still there one frame later, and was not one earlier."""
    over = np.abs(pictures[2:] - pictures[:-2]).mean((1, 2, 3))
    lasting: Array = steps.copy()
    lasting[1:-1] = np.minimum(lasting[1:-1], over)
    lasting[2:] = np.minimum(lasting[2:], over)
    return lasting


def _restlessness(steps: Array, index: int) -> float:
    """Mean change of the frames around one, without the biggest of them: a second cut near by."""
    before = steps[max(index - _AROUND, 1) : index]
    after = steps[index + 1 : index + 1 + _AROUND]
    around = np.sort(np.concatenate([before, after]))
    return float(around[:-1].mean()) if len(around) > 1 else float(around.sum())
