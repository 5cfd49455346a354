"""A result as the file that is asked for: an mp4, or one of `rerender.codec.formats`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from rerender import files
from rerender.codec.audio import sound_of
from rerender.codec.encode import Encoded, encode
from rerender.codec.formats import Format
from rerender.codec.master import assemble, check_format, packed
from rerender.errors import ConfigError
from rerender.run_folder import SOUND
from rerender.video import Video

log = logging.getLogger(__name__)


def deliver(
    path: Path, frames: Iterable[Tensor], video: Video, form: Format | None = None
) -> Encoded:
    """Write frames in a format, in constant memory; same frames, same bytes.

    Args:
        path: the file; of pictures the folder of ``000000.png`` and so on, with ``sound.m4a``
            beside them where there is sound. A file appears when it is complete.
        frames: as many images ``[3,H,W]`` in 0..1 as the source has.
        video: the source: times, sound and alpha are its.
        form: the format; None is mp4.

    Raises:
        ConfigError: the format cannot hold the video, or the folder has files already.
        ResourceError: it cannot be written.
        ValueError: there are more or fewer frames than the source has.
    """
    if form is None:
        with files.writing(path) as file:
            return encode(frames, video, file)
    check_format(form, video)
    coming = (
        packed(image, video, index, form)
        for index, image in zip(range(len(video)), frames, strict=True)
    )
    if not form.pictures:
        with files.writing(path) as file:
            made = assemble(form, video, lambda index: next(coming), file)
            next(coming, None)  # tells of a frame too many
        return made
    check_folder(path)
    for index, data in enumerate(coming):
        files.put(path / f"{index:06d}{form.suffix}", data)
    with files.writing(path / SOUND) as file:
        fate = sound_of(video, file)
    if not fate.startswith(("copied", "transcoded")):
        files.remove(path / SOUND)
    say_times(video)
    return Encoded(len(video), video.output_size, (0, 0), fate)


def check_folder(path: Path) -> None:
    """Refuse a place for pictures that is a file, or a folder with something in it.

    Raises:
        ConfigError: it is.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError("--out", f"{path} is a file, pictures go into a folder", "name another")
    if files.children(path):
        cure = "name a new or an empty folder"
        raise ConfigError("--out", f"{path} has files already, pictures would mix with them", cure)


def say_times(video: Video) -> None:
    """Pictures hold no times: what is to be known of them is said."""
    times = [*video.timestamps, video.end]
    steps = {round(float(after - before), 3) for before, after in pairwise(times)}
    if max(steps) - min(steps) > 0.0015:  # containers round to a millisecond
        log.warning(
            "output: pictures hold no times, and the frames of the source do not last equally "
            "long; an mp4 has them"
        )
