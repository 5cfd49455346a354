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


class Changes:
    """How much each frame differs from the two before it, of frames given one after the other.

    Only two tiny pictures are kept: a long video costs two numbers for each frame.
    """

    def __init__(self) -> None:
        self._last: list[Array] = []  # tiny pictures, [3,24,24] in 0..1
        self._steps: list[np.float32] = []
        self._over: list[np.float32] = []

    @classmethod
    def of(cls, video: Video) -> Changes:
        """Of all frames of a video; each is decoded once."""
        found = cls()
        for index in range(len(video)):
            found.add(video[index])
        return found

    def __len__(self) -> int:
        """Frames given so far."""
        return len(self._steps)

    def add(self, image: Tensor) -> None:
        """The next frame, ``[3,H,W]`` in 0..1."""
        small: Array = resize(image, (_SIDE, _SIDE)).cpu().numpy()
        after, before = (*reversed(self._last), None, None)[:2]
        self._steps.append(np.float32(0) if after is None else np.abs(small - after).mean())
        self._over.append(np.float32(0) if before is None else np.abs(small - before).mean())
        self._last = [*self._last[-1:], small]

    @property
    def steps(self) -> Array:
        """Mean absolute difference of each frame to the one before it, ``[N]``; 0 for the first."""
        return np.array(self._steps, np.float32)

    def cuts(self, ratio: float, floor: float) -> list[int]:
        """Frames that begin a new shot.

        A cut is a change that lasts (a flash goes back to what was before, a cut does not), is at
        least ``floor``, and at least ``ratio`` times the mean change of the frames around it.

        Args:
            ratio: how much a cut stands out from the motion around it.
            floor: the least mean absolute difference of a cut, in 0..1.

        Returns:
            Increasing indices, without 0.
        """
        steps, lasting = self.steps, self._lasting()
        return [
            index
            for index in range(1, len(steps))
            if lasting[index] >= floor and lasting[index] >= ratio * _restlessness(steps, index)
        ]

    def _lasting(self) -> Array:
        """The part of each change that is still there one frame later, and was not one earlier."""
        over, lasting = np.array(self._over[2:], np.float32), self.steps
        lasting[1:-1] = np.minimum(lasting[1:-1], over)
        lasting[2:] = np.minimum(lasting[2:], over)
        return lasting


def shots(length: int, cuts: list[int]) -> list[range]:
    """The ranges of frames between cuts."""
    borders = [0, *cuts, length]
    return [range(a, b) for a, b in pairwise(borders)]


def _restlessness(steps: Array, index: int) -> float:
    """Mean change of the frames around one, without the biggest of them: a second cut near by."""
    before = steps[max(index - _AROUND, 1) : index]
    after = steps[index + 1 : index + 1 + _AROUND]
    around = np.sort(np.concatenate([before, after]))
    return float(around[:-1].mean()) if len(around) > 1 else float(around.sum())
