"""A video file of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rerender.codec import check_sound, open_video
from rerender.contracts import Data
from rerender.data.names import clip_name
from rerender.data.prompt import require_prompt
from rerender.video import Clip


@dataclass(frozen=True)
class VideoFile(Data):
    """One clip out of a video file.

    Attributes:
        path: the file.
        prompt: what the result should show.
        source_prompt: what the source shows.
        negative_prompt: what the result should not show.
        start: first frame.
        frames: number of frames; None means to the end.
        size: short side in pixels at which it is processed.
        output: the size of results: "model" is that at which it is processed, "source" that of
            the source.
        name: short name of the clip; None takes the file's.
        allow_truncated: take the undamaged beginning of a damaged file.

    Raises:
        ConfigError: there is no prompt, or (by ``clips``) the window is not inside the video.
        InputError: by ``clips``, the file cannot be used.
    """

    path: Path
    prompt: str | None = None
    source_prompt: str = ""
    negative_prompt: str = ""
    start: Annotated[int, Field(ge=0)] = 0
    frames: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8, le=4096)] = 512
    output: Literal["model", "source"] = "model"
    name: Annotated[str, Field(pattern=r"^[\w.-]{1,80}$")] | None = None
    allow_truncated: bool = False

    def clips(self) -> Sequence[Clip]:
        prompt = require_prompt(self.prompt)
        video = open_video(self.path, self.start, self.frames, self.allow_truncated)
        check_sound(video)
        name = self.name or clip_name(self.path)
        return [Clip(name, video, prompt, self.source_prompt, self.negative_prompt)]
