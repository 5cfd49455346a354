"""The result of a clip in a format besides mp4: kept frame by frame in the stage store, then made a
file there, and brought to the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from rerender import files
from rerender.codec import Format, assemble, packed, say_times, sound_of
from rerender.run_folder import FRAMES, SOUND
from rerender.store.cache import Entry, Work
from rerender.video import Video


class MasterFrames:
    """The frames of a result in a format besides mp4.

    A frame is a file of the stage under way, so that the next `Work.commit` keeps it: an attempt
    that goes on finds those before it.

    Args:
        form: the format; None keeps nothing.
        video: the source at the size of the result.
        work: the stage.
    """

    def __init__(self, form: Format | None, video: Video, work: Work) -> None:
        self._form, self._video, self._work = form, video, work

    def add(self, index: int, image: Tensor) -> None:
        """Keep a frame."""
        if self._form is not None:
            data = packed(image, self._video, index, self._form)
            self._work.put(self._name(index, self._form), data)

    def finish(self) -> dict[str, Any]:
        """Make the file of a video format, and the sound beside pictures, from what is kept.

        Returns:
            For the manifest: ``master``, the names of the files, and ``sound``, what became of it.
        """
        form, video, work = self._form, self._video, self._work
        if form is None:
            return {}
        if form.pictures:
            names = [self._name(index, form) for index in range(len(video))]
            with work.writing(SOUND) as file:
                fate = sound_of(video, file)
            heard = [SOUND] if fate.startswith(("copied", "transcoded")) else []
            say_times(video)
            return {"master": [*names, *heard], "sound": fate}
        name = f"video{form.suffix}"
        with work.writing(name) as file:
            made = assemble(form, video, lambda index: work.read(self._name(index, form)), file)
        return {"master": [name], "sound": made.audio}

    def _name(self, index: int, form: Format) -> str:
        return f"frame-{index:06d}{form.suffix if form.pictures else '.raw'}"


def delivered(entry: Entry, folder: Path) -> tuple[Path, ...]:
    """Bring the files of a finished stage besides the mp4 to the run folder: ``video.mov``, or
    ``frames/000000.png`` and so on, with ``sound.m4a``."""
    names = entry.facts.get("master", ())
    if any(name.startswith("frame-") for name in names):
        files.remove(folder / FRAMES)  # a shorter clip leaves none of a longer one
    made = []
    for name in names:
        numbered = name.startswith("frame-")
        place = folder / FRAMES / name.removeprefix("frame-") if numbered else folder / name
        files.copy(entry.folder / name, place)
        made.append(place)
    return tuple(made)
