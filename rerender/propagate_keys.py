"""``python -m rerender.propagate``: key frames made elsewhere, carried to a whole video."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rerender import files
from rerender.codec import check_sound, encode, open_video
from rerender.config.build import build
from rerender.config.paths import CONF, choices_of
from rerender.contracts import FlowEstimator, Propagation
from rerender.data.names import RULE, frame_numbers
from rerender.data.pictures import Pictures, is_picture, listed, passed_over, same
from rerender.errors import ConfigError, InputError, ResourceError
from rerender.exits import Parser, command
from rerender.fitting import FittedVideo
from rerender.jobs.progress import Progress
from rerender.keyframes._cuts import find_cuts, thumbnails
from rerender.propagate import propagate
from rerender.scene import Trace, Translation
from rerender.video import Clip, KeyFrame, Video

CUT = (4.0, 0.04)
"""Ratio and floor of a scene cut, as in conf/keyframes/scene_cut.yaml."""

SKEW = 0.02
"""Key frames may be this much wider or narrower than the video."""

Part = TypeVar("Part")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code (see `rerender.exits`)."""
    return command(lambda given: run(parser().parse_args(given)), arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="python -m rerender.propagate", description=__doc__)
    result.add_argument("--keys", type=Path, required=True, metavar="DIR", help=KEYS_HELP)
    result.add_argument("--video", type=Path, required=True, metavar="FILE", help="the source")
    result.add_argument("--out", type=Path, required=True, metavar="FILE", help="an mp4 to write")
    result.add_argument("--first", type=int, default=0, metavar="N", help=FIRST_HELP)
    result.add_argument("--propagation", default="patchmatch", help=names("propagation"))
    result.add_argument("--flow", default="dis", help=names("flow"))
    result.add_argument("--ahead", type=int, default=2, help="segments worked on at a time")
    result.add_argument("--one-shot", action="store_true", help="do not look for scene cuts")
    result.add_argument("--debug", action="store_true", help="show tracebacks")
    return result


WRITTEN = (".mp4", ".m4v")
"""Endings of the names of what is written."""

KEYS_HELP = f"pictures named by their frames: {RULE}"
FIRST_HELP = "number that names give the first frame of the video (0; 1 where they count from 1)"


def names(group: str) -> str:
    """The choices of a group, for the help text."""
    return "one of " + ", ".join(choices_of(group))


def run(options: argparse.Namespace) -> None:
    """Refuse what cannot work, then propagate and encode."""
    if options.ahead < 1:
        raise ConfigError("--ahead", f"must be at least 1, received {options.ahead}", "raise it")
    if options.first < 0:
        raise ConfigError("--first", f"must be at least 0, received {options.first}", "raise it")
    check_out(options.out, options.video, options.keys)
    propagation = chosen("propagation", options.propagation, Propagation)  # type: ignore[type-abstract]
    propagation.check()
    flow = chosen("flow", options.flow, FlowEstimator)  # type: ignore[type-abstract]
    flow.check()
    paths = numbered(options.keys, options.first)
    pictures = Pictures(tuple(paths.values()), rate=1)
    source = open_video(options.video)
    check_sound(source)
    video = fitted(source, pictures.size, options.keys)
    check_inside(paths, len(video), options.first)
    flow = flow.open(Clip(options.video.stem, video, prompt=""))
    cuts = [] if options.one_shot else find_cuts(thumbnails(video), *CUT)
    keys = translations(tuple(paths), pictures, cuts)
    progress = Progress()
    frames = propagate(video, keys, propagation, flow, progress, options.ahead, cuts=cuts)
    try:
        with files.writing(options.out) as file:
            written = encode(frames, video, file)
    finally:
        progress.close()
    sys.stdout.write(f"{options.out}: {written.frames} frames from {len(paths)} key frames\n")


def chosen(group: str, name: str, kind: type[Part]) -> Part:
    """The part that a yaml of conf/ describes."""
    path = CONF / group / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        raise ConfigError(f"--{group}", f"no choice {name!r}", names(group))
    node: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    part = build(node, group)
    assert isinstance(part, kind)
    return part


def check_out(out: Path, video: Path, keys: Path) -> None:
    """Refuse an output that cannot be written, or that would be written over an input.

    Raises:
        ConfigError: it is the video or lies among the key frames as one of them (also through a
            link), a folder, a device, or not named as what is written.
        ResourceError: its folder, or the nearest one above it that is there, may not be written.
    """
    if out.suffix.lower() not in WRITTEN:
        problem = f"an mp4 is written, received {out.name!r}"
        raise ConfigError("--out", problem, f"give a name that ends in {' or '.join(WRITTEN)}")
    try:
        mode = out.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        raise ConfigError("--out", f"{out} cannot be opened ({why})", "choose another") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no plain file"
        raise ConfigError("--out", f"{out} is {kind}", "name a file to write")
    inputs = [video]
    with suppress(InputError):  # said where the key frames are read
        inputs += listed(keys)
    for path in inputs:
        if same(path, out):
            raise ConfigError("--out", f"{out} is the input {path}", "write somewhere else")
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir():
        raise ConfigError("--out", f"{above} is a file, a folder is needed", "choose another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ResourceError(out, f"the folder {above} may not be written", "write somewhere else")


def numbered(folder: Path, first: int = 0) -> Mapping[int, Path]:
    """The pictures of a folder by their frame, in order (see `rerender.data.names.RULE`).

    Args:
        folder: holds the key frames; what else lies there is passed over with a warning.
        first: the number that names give the first frame of the video.

    Raises:
        InputError: no such folder, no picture, one whose frame is not clear, or two of one frame.
    """
    inside = listed(folder)
    paths = [path for path in inside if is_picture(path)]
    if not paths:
        raise InputError(folder, "holds no pictures", f"put key frames there: {KEYS_HELP}")
    passed_over(folder, (path for path in inside if path not in paths))
    return frame_numbers(paths, first)


def check_inside(paths: Mapping[int, Path], length: int, first: int) -> None:
    """Refuse key frames of frames that the video has not.

    Raises:
        InputError: naming the first of them.
    """
    beyond = [index for index in paths if index >= length]
    if beyond:
        problem = f"is of frame {beyond[0]}, the video has frames 0 to {length - 1}"
        one_more = first == 0 and beyond == [length] and 0 not in paths
        cure = "say --first 1 if names count from 1" if one_more else "remove or rename it"
        raise InputError(paths[beyond[0]], problem, cure)


def fitted(video: Video, size: tuple[int, int], keys: Path) -> Video:
    """The video at the size of the key frames.

    Raises:
        InputError: they are of another shape.
    """
    (height, width), shape = size, video.output_size
    if abs(width * shape[0] / (height * shape[1]) - 1) > SKEW:
        problem = f"key frames are {width}x{height}, the video is {shape[1]}x{shape[0]}"
        raise InputError(keys, problem, "give both the same shape")
    return video if size == video.size == shape else FittedVideo(video, size, size)


def translations(
    indices: Sequence[int], pictures: Pictures, cuts: Sequence[int]
) -> Iterator[Translation]:
    """The key frames as a translation would hand them on, read one at a time."""
    for position, index in enumerate(indices):
        image, shot = pictures[position], bisect_right(cuts, index)
        yield Translation(KeyFrame(index, image, shot=shot), Trace(image=image))
