"""Every clip of a folder: video files, folders of pictures, or pictures lying in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rerender.codec import SUFFIXES, check_sound, open_video
from rerender.contracts import Data
from rerender.data.edits import names_paths, read_edits
from rerender.data.names import clip_name, frames_among, is_picture, listed, natural, said, unseen
from rerender.data.pictures import Pictures, passed_over, same
from rerender.data.prompt import require_prompt
from rerender.data.shard import EACH, parsed, share
from rerender.errors import ConfigError, InputError
from rerender.kinds import Label, Word
from rerender.video import Clip, Video


@dataclass(frozen=True)
class Edit(Data):
    """One clip out of a data set, and one prompt for it.

    Attributes:
        path: the video file, or the folder of pictures.
        prompt: what the result should show.
        source_prompt: what the source shows.
        negative_prompt: what the result should not show.
        name: of the edit, used for files and table rows; "" takes the file's.
        source_clip: name of the clip; several edits may be of one.
        kind: of edit, such as style, object, background or multiple; "" where none is said.
        mask: edit mask, white where something may change: a picture, or a folder with one for each
            frame of the file; None for none.
        licence, attribution: of the clip, kept with its results.
        rate: frames per second of a folder of pictures.
        start: first frame.
        frames: number of frames; None means to the end.
        size: short side in pixels at which it is processed.
        output: the size of the result: "model" is that at which it is processed, "source" that of
            the source.
        table: the table that it is from, which is not passed over with a warning.

    Raises:
        ConfigError: by ``clips``, there is no prompt, or the window is not inside the video.
        InputError: by ``clips``, the file or folder cannot be used.
    """

    path: Path
    prompt: str | None = None
    source_prompt: str = ""
    negative_prompt: str = ""
    name: Word = ""
    source_clip: Label = ""
    kind: Label = ""
    mask: Path | None = None
    licence: Label = ""
    attribution: Label = ""
    rate: Annotated[float, Field(gt=0, le=1000)] = 25.0
    start: Annotated[int, Field(ge=0)] = 0
    frames: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8, le=4096)] = 512
    output: Literal["model", "source"] = "model"
    table: Path | None = None

    def clips(self) -> Sequence[Clip]:
        try:
            prompt = require_prompt(self.prompt)
        except ConfigError as error:
            problem = f"there is none for {self.name or self.path}"
            raise ConfigError(
                "prompt", problem, "give prompt=…, or a table by prompts=…"
            ) from error
        name = self.name or clip_name(self.path)
        said = (name, self._video(), prompt, self.source_prompt, self.negative_prompt)
        clip = Clip(
            *said,
            kind=self.kind,
            source_clip=self.source_clip if self.source_clip != name else "",
            masks=str(self.mask or ""),
            first_frame=self.start,
            licence=self.licence,
            attribution=self.attribution,
        )
        return [clip]

    def _video(self) -> Video:
        if not self.path.is_dir():
            video = open_video(self.path, self.start, self.frames)
            check_sound(video)
            return video
        return Pictures.of(self.path, self.rate, self.start, self.frames, self.table)


@dataclass(frozen=True)
class Folder(Data):
    """One clip for each video of a folder and for each folder of pictures in it.

    A folder that holds pictures itself is one clip, unless they are stills of videos beside them,
    that is, have their names. Other files are passed over with a warning; order is by name with
    numbers as numbers. A table may ask for several edits of a clip; one that names paths says what
    the clips are, and nothing else is looked for.

    Attributes:
        path: the folder.
        prompt: what results should show, where the table does not say.
        source_prompt: what sources show, where the table does not say.
        negative_prompt: what results should not show, where the table does not say.
        prompts: a csv or yaml file of edits (`rerender.data.edits.read_edits`).
        rate: frames per second of folders of pictures.
        start: first frame of each clip.
        frames: number of frames of each; None means to the end.
        size: short side in pixels at which clips are processed.
        output: the size of results: "model" is that at which it is processed, "source" that of
            the source.
        shard: "i/n" for the i-th of n shares of the edits, from 0; "each" for a job for each; None
            for all.

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
        if self.shard not in (None, EACH):
            parsed(self.shard)

    def clips(self) -> Sequence[Clip]:
        return [clip for edit in self.each() for clip in edit.clips()]

    def each(self) -> Sequence[Edit]:
        default = Edit(
            self.path,
            self.prompt,
            self.source_prompt,
            self.negative_prompt,
            rate=self.rate,
            start=self.start,
            frames=self.frames,
            size=self.size,
            output=self.output,
            table=self.prompts,
        )
        if self.prompts is not None and names_paths(self.prompts):
            return share(read_edits(self.prompts, None, default), self.shard)
        found = self._found()
        asked: dict[str, list[Edit]] = {}
        for edit in read_edits(self.prompts, found, default) if self.prompts else ():
            asked.setdefault(edit.source_clip, []).append(edit)
        edits = [
            edit
            for name, path in found.items()
            for edit in asked.get(name, [replace(default, path=path, name=name)])
        ]
        return share(edits, self.shard)

    def _found(self) -> dict[str, Path]:
        inside = [path for path in listed(self.path) if not unseen(path)]
        videos = [path for path in inside if _is_video(path)]
        pictures = frames_among(inside)
        if videos:  # those may have stills of other kinds beside them
            pictures = [path for path in pictures if path.suffix.lower() != ".exr"]
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
