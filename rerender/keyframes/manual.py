"""Key frames named by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from rerender.contracts import KeyFrames
from rerender.errors import ConfigError
from rerender.keyframes._cuts import shots
from rerender.keyframes._spacing import with_ends
from rerender.video import Video

Index = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Manual(KeyFrames):
    """The frames that are named, and the first and last frame of each shot.

    Attributes:
        indices: key frames, increasing, counted from the first frame that is processed.
        cuts: frames that begin a new shot, increasing, without 0.

    Raises:
        ConfigError: a list is not increasing, or (by ``check``) names a frame that is not there.
    """

    indices: tuple[Index, ...] = ()
    cuts: tuple[Index, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("indices", self.indices), ("cuts", self.cuts)):
            if any(before >= after for before, after in pairwise(values)):
                problem = f"must increase, received {list(values)}"
                raise ConfigError(f"keyframes.{name}", problem, "sort them and leave out doubles")
        if 0 in self.cuts:
            raise ConfigError("keyframes.cuts", "frame 0 begins the first shot", "leave it out")

    def check(self, video: Video) -> None:
        for name, values in (("indices", self.indices), ("cuts", self.cuts)):
            if values and values[-1] >= len(video):
                problem = f"frame {values[-1]} is not in the video, which has {len(video)}"
                raise ConfigError(f"keyframes.{name}", problem, f"stay below {len(video)}")

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        self.check(video)
        return [with_ends(self.indices, shot) for shot in shots(len(video), list(self.cuts))]
