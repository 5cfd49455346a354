"""Key frames close together where much happens, and far apart where little does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rerender.contracts import KeyFrames
from rerender.errors import ConfigError
from rerender.keyframes._cuts import Changes, shots
from rerender.keyframes._spacing import by_change
from rerender.video import Video


@dataclass(frozen=True)
class Motion(KeyFrames):
    """A key frame wherever the picture has changed enough since the last one, in each shot.

    Change is the mean absolute difference of strongly blurred neighbouring frames, summed up.

    Attributes:
        amount: summed change, of values in 0..1, that calls for a key frame.
        min_gap: least frames between key frames, except before the last frame of a shot.
        max_gap: most frames between key frames.
        ratio: a cut changes the picture this many times as much as the frames around it.
        floor: a cut changes it at least by this mean absolute difference.

    Raises:
        ConfigError: ``min_gap`` is greater than ``max_gap``.
    """

    amount: Annotated[float, Field(gt=0, le=1)] = 0.04
    min_gap: Annotated[int, Field(ge=1, le=1000)] = 4
    max_gap: Annotated[int, Field(ge=1, le=1000)] = 20
    ratio: Annotated[float, Field(ge=1, le=100)] = 4.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.04

    def __post_init__(self) -> None:
        if self.min_gap > self.max_gap:
            problem = f"{self.min_gap} is greater than max_gap, {self.max_gap}"
            raise ConfigError("keyframes.min_gap", problem, "swap the two")

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        changes = Changes.of(video)
        cuts = changes.cuts(self.ratio, self.floor)
        steps, gaps = changes.steps.tolist(), (self.min_gap, self.max_gap)
        return [by_change(steps, self.amount, gaps, shot) for shot in shots(len(video), cuts)]
