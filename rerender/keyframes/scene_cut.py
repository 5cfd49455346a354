"""Shots apart, each with its own anchor; evenly spaced inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rerender.contracts import KeyFrames
from rerender.keyframes._cuts import Changes, shots
from rerender.keyframes._spacing import every
from rerender.video import Video


@dataclass(frozen=True)
class SceneCut(KeyFrames):
    """Every ``interval``-th frame of each shot; a cut is a lasting change that stands out.

    Attributes:
        interval: frames from one key frame to the next inside a shot; the last gap may be less.
        ratio: a cut changes the picture this many times as much as the frames around it.
        floor: a cut changes it at least by this mean absolute difference of values in 0..1.
    """

    interval: Annotated[int, Field(ge=1, le=1000)] = 10
    ratio: Annotated[float, Field(ge=1, le=100)] = 4.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.04

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        cuts = Changes.of(video).cuts(self.ratio, self.floor)
        return [every(self.interval, shot) for shot in shots(len(video), cuts)]
