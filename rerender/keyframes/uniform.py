"""Every K-th frame (§4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rerender.contracts import KeyFrames
from rerender.keyframes._spacing import every
from rerender.video import Video


@dataclass(frozen=True)
class Uniform(KeyFrames):
    """Every ``interval``-th frame and the last one, in one shot.

    Attributes:
        interval: frames from one key frame to the next, K in the paper; the last gap may be less.
    """

    interval: Annotated[int, Field(ge=1, le=1000)] = 10

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        return [every(self.interval, range(len(video)))]
