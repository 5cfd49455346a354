"""Ready-made control maps: poses, line art, depth from a 3-D program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from rerender.codec import SUFFIXES, open_video
from rerender.contracts import Control
from rerender.data.names import is_picture, listed
from rerender.data.pictures import Pictures
from rerender.errors import ConfigError, InputError
from rerender.fitting import resize
from rerender.kinds import Label, Word
from rerender.video import Clip, Frame, Video

SKEW = 0.02
"""Maps may be this much wider or narrower than the clip."""


@dataclass(frozen=True, kw_only=True)
class MapFile(Control):
    """One map for each frame of the clip, from the pictures of a folder or the frames of a video;
    they are given to the ControlNet as they are, at the size of the frame.

    Attributes:
        weight: strength of the ControlNet's residuals.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
        path: the folder, or the video, which needs the clip's rate.
        controlnet: the word that the checkpoint finds the ControlNet by.
        first: the map of the clip's first frame, from 0; None where there are as many maps as
            frames.
        name: the word it is known by: its key under ``control``.
    """

    given: ClassVar[bool] = True

    path: Path
    controlnet: Annotated[Word, Field(min_length=1)]
    first: Annotated[int, Field(ge=0)] | None = None
    name: Label = "file"

    @property
    def network(self) -> str:
        """As `controlnet` says."""
        return self.controlnet

    def check(self, clip: Clip) -> None:
        maps = self._maps()
        frames, first = len(clip.video), self.first or 0
        if self.first is None and len(maps) != frames:
            problem = f"has {len(maps)} control maps, the clip has {frames} frames"
            cure = f"give one for each frame, or say which is that of the first: {self._key}.first="
            raise InputError(self.path, problem, f"{cure}NUMBER")
        if first + frames > len(maps):
            problem = f"has {len(maps)} control maps, the clip needs those from {first} to "
            raise InputError(
                self.path, f"{problem}{first + frames - 1}", f"choose another {self._key}.first"
            )
        size, wanted = maps.size, clip.output.output_size
        if abs(size[1] * wanted[0] / (size[0] * wanted[1]) - 1) > SKEW:
            problem = f"control maps are {size[1]}x{size[0]}, the clip is {wanted[1]}x{wanted[0]}"
            raise InputError(self.path, problem, "give both one shape")
        if not self.path.is_dir():
            self._check_times(maps.timestamps[first:], clip.video)

    def open(self, clip: Clip) -> MapFile:
        return replace(self, first=(self.first or 0) + clip.offset)

    def map(self, image: Tensor) -> Tensor:
        problem = "has maps of the clip's frames, and can make none of another picture"
        raise ConfigError(self._key, problem, "use canny, hed or depth for that")

    def frame_map(self, frame: Frame) -> Tensor:
        image = self._maps()[(self.first or 0) + frame.index]
        return resize(image, (frame.image.shape[-2], frame.image.shape[-1])).to(frame.image)

    @property
    def _key(self) -> str:
        return f"control.{self.name}"

    def _maps(self) -> Video:
        files: Iterable[Path] = [self.path]
        if self.path.is_dir():
            files = filter(is_picture, listed(self.path))
        elif self.path.exists() and self.path.suffix.lower() not in SUFFIXES:
            problem = "is neither a folder of pictures nor a video by its name"
            raise InputError(self.path, problem, "give one map for each frame of the clip")
        stats = []
        for file in files:
            with suppress(FileNotFoundError):
                stats.append((file.name, file.stat()))
        if self.path.is_dir() and not stats:
            raise InputError(self.path, "holds no pictures", "put control maps there")
        return _opened(self.path, tuple((name, s.st_size, s.st_mtime_ns) for name, s in stats))

    def _check_times(self, maps: Sequence[Fraction], video: Video) -> None:
        """A map must be shown while its frame is: within half of a frame of the same time."""
        times = video.timestamps
        half = (video.end - times[0]) / len(times) / 2
        shown = [time - maps[0] for time in maps]
        for index, (map_, time) in enumerate(zip(shown, times, strict=False)):
            if abs(map_ - (time - times[0])) > half:
                problem = (
                    f"control map {index} is shown at {float(map_):.3f} s, its frame of the clip "
                    f"at {float(time - times[0]):.3f} s"
                )
                cure = "bring both to one rate, or give the maps as a folder of pictures"
                raise InputError(self.path, problem, cure)


@lru_cache(maxsize=8)
def _opened(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> Video:
    """The maps, decoded once to find damage; ``stamps`` tell a file that has been written anew."""
    return Pictures.of(path, 1) if path.is_dir() else open_video(path)
