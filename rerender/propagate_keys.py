"""``python -m rerender.propagate``: key frames made elsewhere, carried to a whole video."""

from __future__ import annotations

import argparse
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rerender import store
from rerender.build import build
from rerender.codec import encode, open_video
from rerender.contracts import FlowEstimator, Propagation
from rerender.data.pictures import Pictures, is_picture
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.fit import FittedVideo
from rerender.keyframes.cuts import find_cuts, thumbnails
from rerender.prescan import CONF
from rerender.progress import Progress
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
    result.add_argument("--propagation", default="patchmatch", help=names("propagation"))
    result.add_argument("--flow", default="dis", help=names("flow"))
    result.add_argument("--ahead", type=int, default=2, help="segments worked on at a time")
    result.add_argument("--one-shot", action="store_true", help="do not look for scene cuts")
    result.add_argument("--debug", action="store_true", help="show tracebacks")
    return result


KEYS_HELP = "pictures whose names end in the number of their frame, from 0, such as 000010.png"


def names(group: str) -> str:
    """The choices of a group, for the help text."""
    return "one of " + ", ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


def run(options: argparse.Namespace) -> None:
    """Refuse what cannot work, then propagate and encode."""
    if options.ahead < 1:
        raise ConfigError("--ahead", f"must be at least 1, received {options.ahead}", "raise it")
    propagation = chosen("propagation", options.propagation, Propagation)  # type: ignore[type-abstract]
    propagation.check()
    flow = chosen("flow", options.flow, FlowEstimator)  # type: ignore[type-abstract]
    flow.check()
    files = numbered(options.keys)
    pictures = Pictures(tuple(files.values()), rate=1)
    video = fitted(open_video(options.video), pictures.size, options.keys)
    flow = flow.open(Clip(options.video.stem, video, prompt=""))
    cuts = [] if options.one_shot else find_cuts(thumbnails(video), *CUT)
    keys = translations(tuple(files), pictures, cuts)
    progress = Progress()
    frames = propagate(video, keys, propagation, flow, progress, options.ahead)
    try:
        with store.writing(options.out) as file:
            written = encode(frames, video, file)
    finally:
        progress.close()
    sys.stdout.write(f"{options.out}: {written.frames} frames from {len(files)} key frames\n")


def chosen(group: str, name: str, kind: type[Part]) -> Part:
    """The part that a yaml of conf/ describes."""
    path = CONF / group / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        raise ConfigError(f"--{group}", f"no choice {name!r}", names(group))
    node: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    part = build(node, group)
    assert isinstance(part, kind)
    return part


def numbered(folder: Path) -> Mapping[int, Path]:
    """The pictures of a folder by the number of their frame, in order.

    Raises:
        InputError: no such folder, no picture, one without a number, or two with the same.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "name the folder of the key frames")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_picture(path):
            continue
        number = re.search(r"(\d+)$", path.stem)
        if number is None:
            raise InputError(path, "its name does not end in a frame number", "rename it")
        other = found.setdefault(int(number[1]), path)
        if other is not path:
            raise InputError(path, f"has the number of {other.name}", "remove one of the two")
    if not found:
        raise InputError(folder, "holds no pictures", f"put key frames there: {KEYS_HELP}")
    return dict(sorted(found.items()))


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
