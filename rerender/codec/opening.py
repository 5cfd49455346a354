"""Opening a video file: what is refused, and what is said of what is opened."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from rerender.codec.container import open_container
from rerender.codec.decode import FileVideo, cure
from rerender.codec.index import Index, other_streams, scan, video_stream
from rerender.codec.whole import inspect
from rerender.errors import ConfigError, InputError

log = logging.getLogger(__name__)
_PASSING = ("vp8", "mjpeg", "wmv1", "wmv2", "wmv3", "vc1")
"""FFmpeg's names of decoders that notice few changed bytes (docs/damaged_videos.md)."""


def open_video(
    path: Path | str,
    start: int = 0,
    frames: int | None = None,
    allow_truncated: bool | None = None,
) -> FileVideo:
    """Open a video file and check every frame that is asked for.

    The structure of the container is walked and all packets are read (not decoded) to count
    frames, and the frames of the window are decoded once, so that damage is found before anything
    heavy starts. Rotation, mirroring and the shape of pixels are applied; colours are read as
    ``rerender.codec.color`` says; times are kept exactly. A file that was cut so that it begins
    within a group of pictures starts at the first frame that can be decoded, with a warning.

    Args:
        path: a plain file in a common container; playlists, addresses and devices are refused.
        start: first frame.
        frames: how many frames from there; None means to the end.
        allow_truncated: take the undamaged beginning of a damaged file (see ``FileVideo.missing``);
            None where nobody can ask for that, so that it is not offered.

    Raises:
        InputError: the file is missing, not a video, damaged, or has fewer frames than it says.
        ConfigError: the window is not inside the video.
    """
    path = Path(path)
    with open_container(path) as container:
        kind = container.format.name
        stream = video_stream(container, path)
        others = other_streams(container, stream)
        coded = stream.codec_context.name
        index = scan(container, stream, path)
    if others:
        log.warning("%s: %s", path, others)
    if index.leading:
        problem = "begins within a group of pictures; its first %d frames hang on what was cut off"
        log.warning("%s: " + problem + " and are left out", path, index.leading)
    whole = inspect(path, kind)
    damage = whole.problem
    if kind == "avi" and not damage:  # empty chunks at its end promise no frames
        index = replace(index, missing=0)
    if index.missing:
        there = len(index.pts)
        damage = f"{there} of {there + index.missing} frames decode, the file is cut off"
    if damage and not allow_truncated:
        offered = allow_truncated is not None and _begins(path, index, start, frames)
        raise InputError(path, damage, cure(offered))
    if index.hidden:
        log.warning("%s: its edit list leaves out %d of its frames", path, index.hidden)
    window = _window(path, len(index.pts), start, frames)
    video = FileVideo(path, index, window, allow_truncated)
    if video.lost:
        log.warning("%s: %s", path, "; ".join(sorted(video.lost)))
    if damage and not video.missing:
        log.warning("%s: %s, but all %d frames decode: going on", path, damage, len(video))
    if video.missing:
        log.warning("%s: %d frames are missing or damaged, going on without", path, video.missing)
    elif not whole.known:
        problem = "holds %d frames, as far as can be known; such a file does not say how many"
        log.warning("%s: " + problem, path, len(index.pts))
    elif coded in _PASSING and not whole.summed:
        problem = "holds %d frames; bytes of them that were changed cannot be found: neither"
        problem += " the container nor %s has checksums"
        log.warning("%s: " + problem, path, len(index.pts), coded.upper())
    return video


def _begins(path: Path, index: Index, start: int, frames: int | None) -> bool:
    """Whether a damaged file can be used from its start: only then is that offered as a cure."""
    try:
        FileVideo(path, index, _window(path, len(index.pts), start, frames), True)
    except (InputError, ConfigError):
        return False
    return True


def _window(path: Path, total: int, start: int, frames: int | None) -> range:
    if not 0 <= start < total:
        raise ConfigError(
            "data.start", f"frame {start} is not in {path}, which has {total}", "choose another"
        )
    if frames is None:
        return range(start, total)
    if frames < 1:
        raise ConfigError("data.frames", f"at least 1 is needed, received {frames}", "ask for more")
    if start + frames > total:
        problem = f"{frames} frames from frame {start} are not in {path}, which has {total}"
        raise ConfigError("data.frames", problem, f"ask for at most {total - start}")
    return range(start, start + frames)
