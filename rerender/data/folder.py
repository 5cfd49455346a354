"""Every clip of a folder: video files, folders of pictures, or pictures lying in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rerender.codec import check_sound, open_video
from rerender.contracts import Data
from rerender.data.pictures import Pictures, is_picture
from rerender.data.prompt import Prompts, read_table, require_prompt
from rerender.data.shard import parsed, share
from rerender.errors import ConfigError, InputError
from rerender.video import Clip, Video

_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif", ".ogv")


@dataclass(frozen=True)
class Folder(Data):
    """One clip for each video of a folder and for each folder of pictures in it.

    A folder that holds pictures itself is one clip. Other files are left alone; order is by name
    with numbers as numbers.

    Attributes:
        path: the folder.
        prompt: what results should show, where the table does not say.
        source_prompt: what sources show, where the table does not say.
        negative_prompt: what results should not show, where the table does not say.
        prompts: a csv file with columns name, prompt, source_prompt, negative_prompt.
        rate: frames per second of folders of pictures.
        start: first frame of each clip.
        frames: number of frames of each; None means to the end.
        size: short side in pixels at which clips are processed.
        shard: "i/n" for the i-th of n shares of the clips, from 0; None for all.

    Raises:
        ConfigError: by ``clips``, a clip has no prompt or fewer frames than are asked for, or the
            shard holds none.
        InputError: by ``clips``, the folder, a clip or the table cannot be used.
    """

    path: Path
    prompt: str | None = None
    source_prompt: str = ""
    negative_prompt: str = ""
    prompts: Path | None = None
    rate: Annotated[float, Field(gt=0, le=1000)] = 25.0
    start: Annotated[int, Field(ge=0)] = 0
    frames: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8, le=4096)] = 512
    shard: str | None = None

    def __post_init__(self) -> None:
        if self.shard is not None:
            parsed(self.shard)

    def clips(self) -> Sequence[Clip]:
        found = self._found()
        default = Prompts(self.prompt, self.source_prompt, self.negative_prompt)
        table = read_table(self.prompts, found, default) if self.prompts else {}
        names = share(list(found), self.shard)
        return [self._clip(name, found[name], table.get(name, default)) for name in names]

    def _found(self) -> dict[str, Path]:
        if not self.path.is_dir():
            raise InputError(self.path, "is not a folder", "give one, or use data=video")
        inside = [path for path in self.path.iterdir() if not path.name.startswith(".")]
        if any(is_picture(path) for path in inside):
            return {self.path.resolve().name: self.path}
        clips = [path for path in inside if path.suffix.lower() in _VIDEOS or _holds(path)]
        if not clips:
            problem = "holds neither videos nor pictures"
            raise InputError(self.path, problem, f"put files in it: {', '.join(_VIDEOS)}, .png, …")
        named: dict[str, Path] = {}
        for path in sorted(clips, key=lambda path: natural(path.name)):
            name = path.name if path.is_dir() else path.stem
            if name in named:
                raise InputError(path, f"has the same name as {named[name].name}", "rename one")
            named[name] = path
        return named

    def _clip(self, name: str, path: Path, said: Prompts) -> Clip:
        try:
            prompt = require_prompt(said.prompt)
        except ConfigError as error:
            problem = f"there is none for {name}"
            raise ConfigError("prompt", problem, "give prompt=…, or a csv by prompts=…") from error
        return Clip(name, self._video(path), prompt, said.source_prompt, said.negative_prompt)

    def _video(self, path: Path) -> Video:
        if not path.is_dir():
            video = open_video(path, self.start, self.frames)
            check_sound(video)
            return video
        files = sorted(filter(is_picture, path.iterdir()), key=lambda path: natural(path.name))
        return Pictures(files, self.rate, self.start, self.frames)


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which frame9 comes before frame10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts] + [(-1, name)]


def _holds(path: Path) -> bool:
    return path.is_dir() and any(map(is_picture, path.iterdir()))
