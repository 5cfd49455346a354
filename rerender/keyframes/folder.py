"""Key frames made elsewhere, such as painted ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from rerender.contracts import KeyFrames
from rerender.data.pictures import Pictures
from rerender.errors import ConfigError
from rerender.fitting import resize
from rerender.keyframes._cuts import Changes, shots
from rerender.keyframes._numbered import check_inside, check_shape, numbered
from rerender.video import Video


@dataclass(frozen=True)
class FolderOfKeys(KeyFrames):
    """The pictures of a folder, each the key frame of the frame that its name says. None is
    translated: the model is not asked.

    Attributes:
        path: the folder.
        first: number that names give the first frame that is processed.
        harmonise: bring key frames that differ in colour where they show the same together
            (`rerender.propagate.harmonise`).
        cuts: frames that begin a new shot, increasing, without 0; None finds them.
        ratio: how much a cut stands out from the motion around it.
        floor: the least mean absolute difference of a cut, in 0..1.

    Raises:
        ConfigError: the cuts do not increase, or (by ``check``) one is not in the video.
        InputError: by ``check``, a picture cannot be read, is not of a frame of the video, or is of
            another shape than it or than the others.
    """

    made_elsewhere: ClassVar[bool] = True

    path: Path
    first: Annotated[int, Field(ge=0)] = 0
    harmonise: bool = False
    cuts: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    ratio: Annotated[float, Field(ge=1)] = 4.0
    floor: Annotated[float, Field(ge=0, le=1)] = 0.04

    def __post_init__(self) -> None:
        if any(before >= after for before, after in pairwise(self.cuts or ())):
            problem = f"must increase, received {list(self.cuts or ())}"
            raise ConfigError("keyframes.cuts", problem, "sort them and leave out doubles")

    def check(self, video: Video) -> None:
        paths = self._paths()
        check_inside(paths, len(video), self.first, "keyframes.first=1")
        check_shape(self.path, self._pictures(paths).size, video.output_size)
        if self.cuts and self.cuts[-1] >= len(video):
            problem = f"frame {self.cuts[-1]} is not in the video, which has {len(video)}"
            raise ConfigError("keyframes.cuts", problem, f"stay below {len(video)}")

    def pick(self, video: Video) -> Sequence[Sequence[int]]:
        picked = self._paths()
        ranges = shots(len(video), list(self.borders(video)))
        found = [[index for index in picked if index in shot] for shot in ranges]
        return [shot for shot in found if shot]

    def given(self, video: Video) -> Mapping[int, Callable[[], Tensor]]:
        paths = self._paths()
        pictures, size = self._pictures(paths), video.size

        def read(position: int) -> Tensor:
            return resize(pictures[position], size)

        return {index: partial(read, position) for position, index in enumerate(paths)}

    def borders(self, video: Video) -> Sequence[int]:
        if self.cuts is not None:
            return self.cuts
        return Changes.of(video).cuts(self.ratio, self.floor)

    def _paths(self) -> Mapping[int, Path]:
        return numbered(self.path, self.first, "keyframes.first")

    @staticmethod
    def _pictures(paths: Mapping[int, Path]) -> Pictures:
        return Pictures(tuple(paths.values()), rate=1)
