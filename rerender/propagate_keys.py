"""``python -m rerender.propagate``: key frames made elsewhere, carried to a whole video."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from rerender import files
from rerender.codec import (
    FORMATS,
    check_folder,
    check_format,
    check_sound,
    deliver,
    open_video,
)
from rerender.compiled import warn_unkept
from rerender.config.build import build
from rerender.config.compose import literal, preflight
from rerender.config.device import check_devices
from rerender.config.job import Job
from rerender.contracts import FlowEstimator, Mask, Propagation, SegmentWorkers, Smooth
from rerender.data.names import listed
from rerender.data.pictures import Pictures, same
from rerender.errors import ConfigError, InputError, ResourceError
from rerender.exits import Parser, command
from rerender.files import suffixes
from rerender.fitting import FittedVideo, fitted_size
from rerender.jobs.clip_workers import ClipSegments
from rerender.jobs.contact_sheet import gallery
from rerender.jobs.device_pool import DevicePool, setup_of
from rerender.jobs.progress import Progress
from rerender.keyframes._cuts import Changes
from rerender.keyframes._numbered import KEYS_HELP, check_inside, check_shape, numbered, skewed
from rerender.keyframes._settling import suggested
from rerender.propagate import propagate
from rerender.propagate.harmonise import Harmony, harmony
from rerender.scene import Trace, Translation
from rerender.store.run_identity import named_paths
from rerender.video import Clip, KeyFrame, Video

CUT = (4.0, 0.04)
"""Ratio and floor of a scene cut, as in conf/keyframes/scene_cut.yaml."""

Part = TypeVar("Part")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code (see `rerender.exits`)."""
    return command(lambda given: run(parser().parse_intermixed_args(checked(given))), arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="python -m rerender.propagate", description=__doc__)
    result.add_argument("--keys", type=Path, required=True, metavar="DIR", help=KEYS_HELP)
    result.add_argument("--video", type=Path, required=True, metavar="FILE", help="the source")
    result.add_argument("--out", type=Path, required=True, metavar="FILE", help=OUT_HELP)
    result.add_argument("--first", type=int, default=0, metavar="N", help=FIRST_HELP)
    result.add_argument("--harmonise", action="store_true", help=HARMONISE_HELP)
    result.add_argument("--suggest", type=int, metavar="N", help=SUGGEST_HELP)
    result.add_argument("--ahead", type=int, default=2, help=AHEAD_HELP)
    result.add_argument("--one-shot", action="store_true", help="do not look for scene cuts")
    result.add_argument("--debug", action="store_true", help="show tracebacks")
    result.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=SETTINGS_HELP)
    return result


WINDOW = ("data.start", "data.frames", "data.allow_truncated")
READ = ("flow", "propagation", "smooth", "mask", *WINDOW, "format", "devices", "debug")
"""The settings that this command reads, with all below them."""

BESIDE = ("flow", "propagation", "smooth", "mask")
"""Those of them that may name files besides the video and the key frames."""

RENAMED = {"--flow": "flow", "--propagation": "propagation"}


def checked(given: Sequence[str]) -> Sequence[str]:
    """The arguments, without those that were given up.

    Raises:
        ConfigError: one was; the message says what to write now.
    """
    for argument in given:
        flag, equals, value = argument.partition("=")
        if flag in RENAMED:
            cure = f"write {RENAMED[flag]}={value if equals else 'NAME'}"
            raise ConfigError(flag, "is a setting like those of a run now", cure)
    return given


def composed(settings: Sequence[str], video: Path) -> Mapping[str, Any]:
    """The configuration that settings describe, checked as that of a run.

    Raises:
        ConfigError: one is not read here, is a sweep, or is refused.
    """
    for setting in settings:
        key = setting.partition("=")[0]
        if "=" not in setting or not any(f"{key}.".startswith(f"{known}.") for known in READ):
            cure = f"it reads {', '.join(READ)}, such as flow=raft"
            raise ConfigError(key, "is no setting that this command reads", cure)
    source = ["data=video", f"data.path={video}", "prompt=as painted"]
    trees = preflight(literal([*source, *settings])).jobs
    if len(trees) > 1:
        raise ConfigError("settings", f"one result is made, {len(trees)} are asked for", "ask once")
    return trees[0]


WRITTEN = (".mp4", ".m4v")
"""Endings of the names of what is written."""

OUT_HELP = "an mp4 to write, or what format=NAME says: .mov, .mkv or a folder; with --suggest a png"
HARMONISE_HELP = "bring key frames that differ in colour where they show the same together"
AHEAD_HELP = "segments worked on at a time; with devices=[…] one more than they are"
SUGGEST_HELP = "do not make a video: say which N frames to paint next, and what each would gain"
SETTINGS_HELP = (
    "settings of flow, propagation, smooth, mask, format, data.start, data.frames and devices, as "
    "of a run"
)
FIRST_HELP = "number that names give the first frame of the video (0; 1 where they count from 1)"


def run(options: argparse.Namespace) -> None:
    """Refuse what cannot work, then propagate and encode, or say what to paint next."""
    for name, least in (("ahead", 1), ("first", 0), ("suggest", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(
                f"--{name}", f"must be at least {least}, received {value}", "raise it"
            )
    tree = composed(options.settings, options.video)
    form = None if options.suggest else FORMATS.get(tree["format"])
    endings = (".png",) if options.suggest else (form.suffix,) if form else WRITTEN
    if form is not None and form.pictures:
        check_folder(options.out)
        files.check_writable(options.out, "--out")
    else:
        others = [path for _, path in named_paths({key: tree[key] for key in BESIDE}, "")]
        check_out(options.out, options.video, options.keys, endings, others)
    if tree["devices"]:
        check_devices(Job.of(tree))
    propagation = part(tree, "propagation", Propagation)  # type: ignore[type-abstract]
    flow = part(tree, "flow", FlowEstimator)  # type: ignore[type-abstract]
    smooth = part(tree, "smooth", Smooth)  # type: ignore[type-abstract]
    mask = part(tree, "mask", Mask)  # type: ignore[type-abstract]
    propagation.check()
    flow.check()
    warn_unkept()
    paths = numbered(options.keys, options.first)
    pictures = Pictures(tuple(paths.values()), rate=1)
    data = tree["data"]
    source = open_video(options.video, data["start"], data["frames"], data["allow_truncated"])
    check_sound(source)
    video = fitted(source, pictures.size, options.keys)
    check_inside(paths, len(video), options.first)
    if form is not None:
        check_format(form, video)
    mask.check(video)
    flow = flow.open(Clip(options.video.stem, video, prompt=""))
    cuts = [] if options.one_shot else Changes.of(video).cuts(*CUT)
    if options.suggest:
        sys.stdout.write(suggest(options, video, tuple(paths), cuts, flow))
        return
    level = None
    if options.harmonise:
        level = harmony(tuple(paths), pictures.__getitem__, video, flow, cuts)
    keys = translations(tuple(paths), pictures, cuts, level)
    progress = Progress()
    with spread(tree, video, progress) as workers:
        ahead = options.ahead
        frames = propagate(video, keys, propagation, flow, progress, ahead, 0, cuts, workers)
        frames = mask.composite(smooth.run(frames, video, flow), video, flow)
        try:
            written = deliver(options.out, frames, video, form)
        finally:
            progress.close()
    sys.stdout.write(f"{options.out}: {written.frames} frames from {len(paths)} key frames\n")


@contextmanager
def spread(
    tree: Mapping[str, Any], video: Video, progress: Progress
) -> Iterator[SegmentWorkers | None]:
    """The processes that fill the segments, one for each of ``devices``; None without any."""
    if not tree["devices"]:
        yield None
        return
    sizes = video.size, video.output_size
    with DevicePool(tree["devices"], setup_of(tree, {}, 1, None, sizes)) as pool:
        yield ClipSegments(pool, 0, progress.credit)


def part(tree: Mapping[str, Any], group: str, kind: type[Part]) -> Part:
    """The part that a configuration chooses of a group."""
    found = build(tree[group], group)
    assert isinstance(found, kind)  # as the folder of choices says
    return found


def suggest(
    options: argparse.Namespace,
    video: Video,
    keys: Sequence[int],
    cuts: Sequence[int],
    flow: FlowEstimator,
) -> str:
    """Write a picture of the frames to paint next; returns the list in words."""
    found = suggested(video, keys, cuts, flow, options.suggest)
    if not found:
        raise InputError(options.keys, "holds every frame of the video", "nothing is left to paint")
    lines = [
        f"frame {each.frame + options.first}: {each.gain:+.2f} dB; lies in frames "
        f"{each.span.start + options.first} to {each.span.stop - 1 + options.first}; the frame "
        f"explained worst before is off by {each.worst:.1f} levels"
        for each in found
    ]
    captions = [f"{each.frame + options.first}  {each.gain:+.2f} dB" for each in found]
    files.put(options.out, files.png(gallery([video[each.frame] for each in found], captions)))
    return "\n".join([*lines, f"{options.out}: these frames, the most useful first", ""])


def check_out(
    out: Path,
    video: Path,
    keys: Path,
    endings: Sequence[str] = WRITTEN,
    others: Sequence[Path] = (),
) -> None:
    """Refuse an output that cannot be written, or that would be written over an input.

    Raises:
        ConfigError: it is the video or another input, or lies among the key frames as one of them
            (also through a link), a folder, a device, or not named as what is written.
        ResourceError: its folder, or the nearest one above it that is there, may not be written.
    """
    if out.suffix.lower() not in endings:
        article = "a" if endings[0] == ".png" else "an"
        problem = f"{article} {endings[0][1:]} is written, received {out.name!r}"
        raise ConfigError("--out", problem, f"give a name that ends in {' or '.join(endings)}")
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
    inputs = [video, *others]
    with suppress(InputError):  # said where the key frames are read
        inputs += listed(keys)
    for path in inputs:
        if same(path, out):
            raise ConfigError("--out", f"{out} is the input {path}", "write somewhere else")
    read = [folder for folder in (keys, *others) if same(folder, out.parent)]
    if read and out.suffix.lower() in suffixes.PICTURES:
        problem = f"{out} lies in {read[0]}, and would be read as one of its pictures"
        raise ConfigError("--out", problem, "write somewhere else")
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir():
        raise ConfigError("--out", f"{above} is a file, a folder is needed", "choose another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ResourceError(out, f"the folder {above} may not be written", "write somewhere else")


def fitted(video: Video, size: tuple[int, int], keys: Path) -> Video:
    """The video at the size of the key frames. Where that misses its shape by a model's rounding,
    it is shown in its own.

    Raises:
        InputError: they are of another shape.
    """
    shape = video.output_size
    check_shape(keys, size, shape)
    if size == video.size == shape:
        return video
    shown = fitted_size(shape, min(size), 2) if skewed(size, shape) else size
    return FittedVideo(video, size, shown)


def translations(
    indices: Sequence[int], pictures: Pictures, cuts: Sequence[int], level: Harmony | None = None
) -> Iterator[Translation]:
    """The key frames as a translation would hand them on, read one at a time."""
    for position, index in enumerate(indices):
        image, shot = pictures[position], bisect_right(cuts, index)
        image = image if level is None else level(position, image)
        yield Translation(KeyFrame(index, image, shot=shot), Trace(image=image))
