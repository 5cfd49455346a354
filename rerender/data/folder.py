"""Every clip of a folder: video files, folders of pictures, or pictures lying in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rerender.codec import SUFFIXES, check_sound, open_video
from rerender.contracts import Data
from rerender.data.names import clip_name, natural, said, unseen
from rerender.data.pictures import Pictures, is_picture, listed, passed_over, same
from rerender.data.prompt import Prompts, read_table, require_prompt
from rerender.data.shard import parsed, share
from rerender.errors import ConfigError, InputError
from rerender.kinds import Word
from rerender.video import Clip, Video


@dataclass(frozen=True)
class Folder(Data):
    """One clip for each video of a folder and for each folder of pictures in it.

    A folder that holds pictures itself is one clip, unless they are stills of videos beside them,
    that is, have their names. Other files are passed over with a warning; order is by name with
    numbers as numbers.

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
        output: the size of results: "model" is that at which it is processed, "source" that of
            the source.
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
    output: Literal["model", "source"] = "model"
    shard: Word | None = None

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
        inside = [path for path in listed(self.path) if not unseen(path)]
        pictures = [path for path in inside if is_picture(path)]
        videos = [path for path in inside if _is_video(path)]
        if pictures and not videos:
            return {clip_name(self.path.resolve()): self.path}
        _require_posters(self.path, pictures, videos)
        clips = [*videos, *(path for path in inside if _holds(path))]
        if not clips:
            problem = (
                f"holds neither videos nor pictures ({said(p.name for p in inside) or 'empty'})"
            )
            raise InputError(self.path, problem, f"put files in it: {', '.join(SUFFIXES)}, .png, …")
        others = [path for path in inside if path not in clips and not same(path, self.prompts)]
        passed_over(self.path, others, "videos and folders of pictures")
        named: dict[str, Path] = {}
        for path in sorted(clips, key=lambda path: natural(path.name)):
            other = named.setdefault(clip_name(path), path)
            if other is not path:
                raise InputError(path, f"has the same name as {other.name}", "rename one")
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
        return Pictures.of(path, self.rate, self.start, self.frames, self.prompts)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _holds(path: Path) -> bool:
    return path.is_dir() and any(map(is_picture, listed(path)))


def _require_posters(folder: Path, pictures: Sequence[Path], videos: Sequence[Path]) -> None:
    """Refuse pictures beside videos, unless each has the name of one: then it is a still of it."""
    stems = {video.stem for video in videos}
    if any(path.stem not in stems for path in pictures):
        problem = (
            f"holds {len(pictures)} pictures ({said(p.name for p in pictures)}) beside "
            f"{len(videos)} videos ({said(p.name for p in videos)}): which are meant is not clear"
        )
        raise InputError(folder, problem, "move either of them to a folder of their own")
