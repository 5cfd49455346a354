"""Videos side by side as one small animated picture (WebP or GIF) for a page or a README.

    python -m experiments.animation OUT.webp RUN [RUN ...] [--labels TEXT ...]
        [--every N] [--height PIXELS] [--quality Q]

Each RUN is a finished run folder of one clip. The source stands first, then each run's video, then
the true translation where it is known. All runs must be of the same clip.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from eval import references
from rerender import files
from rerender.codec import open_video
from rerender.config.foreign import check_recorded
from rerender.config.job import Job
from rerender.data.pictures import same
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.fitting import resize
from rerender.run_folder import CONFIG, VIDEO, read_config
from rerender.store.run_identity import named_paths
from rerender.video import Clip, Video

SUFFIXES = (".webp", ".gif")
_LABEL, _GAP = 18, 4  # height of the labels and width of gaps in pixels


def animation(
    panels: Sequence[tuple[str, Video]], every: int, height: int, suffix: str, quality: int
) -> bytes:
    """An endless animated picture of videos of equal length side by side, at the first one's speed.

    Args:
        panels: label and video of each.
        every: take every so many frames, from 1.
        height: of a video in pixels.
        suffix: ".webp" or ".gif".
        quality: of WebP, 1..100.
    """
    first = panels[0][1]
    indices = range(0, len(first), every)
    frames = [
        _page([(label, video[index]) for label, video in panels], height) for index in indices
    ]
    seconds = float(first.end - first.timestamps[0]) * every / len(first)
    out = BytesIO()
    frames[0].save(
        out,
        suffix.removeprefix("."),
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 * seconds),
        loop=0,
        quality=quality,
        method=6,
    )
    return out.getvalue()


def _page(images: Sequence[tuple[str, Tensor]], height: int) -> Image.Image:
    sizes = [(height, round(height * i.shape[-1] / i.shape[-2])) for _, i in images]
    page = Image.new("RGB", (sum(w + _GAP for _, w in sizes) - _GAP, height + _LABEL), "white")
    draw, font, left = ImageDraw.Draw(page), ImageFont.load_default(13), 0
    for (label, image), size in zip(images, sizes, strict=True):
        draw.text((left + 2, 1), label, fill="black", font=font)
        levels = resize(image, size).clamp(0, 1).mul(255).round().byte()
        page.paste(Image.fromarray(np.asarray(levels.permute(1, 2, 0))), (left, _LABEL))
        left += size[1] + _GAP
    return page


def panels_of(runs: Sequence[Path], labels: Sequence[str]) -> list[tuple[str, Video]]:
    """Source, the videos of run folders, and the truth where it is known.

    Raises:
        InputError: a folder holds no finished run of one clip.
        ConfigError: not one label for each run, or the runs are of different clips.
    """
    if labels and len(labels) != len(runs):
        problem = f"{len(labels)} for {len(runs)} runs"
        raise ConfigError("--labels", problem, "give one for each run, or none")
    clips = [_clip(run) for run in runs]
    source = clips[0]
    if any(clip.video.digest() != source.video.digest() for clip in clips):
        raise ConfigError("runs", "are of different clips", "give runs of one clip")
    truth = references.translation(source)
    names = labels or [run.resolve().name.rpartition("-")[0] for run in runs]
    made = [(name, open_video(run / VIDEO)) for name, run in zip(names, runs, strict=True)]
    return [("source", source.video), *made, *([("truth", truth)] if truth else [])]


def _clip(run: Path) -> Clip:
    if not (run / VIDEO).is_file():
        raise InputError(run, f"holds no {VIDEO}", "name the folder of a finished run of one clip")
    config = read_config(run / CONFIG)
    check_recorded(config, ("data",))
    (clip,) = Job.of(config).data.clips()
    return clip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.animation", description=__doc__)
    parser.add_argument("out", type=Path, help="the picture, .webp or .gif")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--labels", nargs="*", default=[], help="one for each run")
    parser.add_argument("--every", type=int, default=1, help="take every so many frames")
    parser.add_argument("--height", type=int, default=192, help="of a video in pixels")
    parser.add_argument("--quality", type=int, default=75, help="of WebP, 1..100")
    given = parser.parse_intermixed_args(arguments)
    if given.out.suffix not in SUFFIXES:
        raise ConfigError(given.out, "is no .webp or .gif", "choose one of the two")
    for name, value, most in (("every", given.every, 10_000), ("height", given.height, 4096)):
        if not 1 <= value <= most:
            raise ConfigError(f"--{name}", f"must lie in 1..{most}, received {value}", "change it")
    if not 1 <= given.quality <= 100:
        raise ConfigError("--quality", f"must lie in 1..100, received {given.quality}", "change it")
    panels = panels_of(given.runs, given.labels)
    for run in given.runs:
        inputs = [path for _, path in named_paths(read_config(run / CONFIG), "")]
        if any(same(path, given.out) for path in inputs):
            raise ConfigError(given.out, f"is an input of {run}", "write somewhere else")
    content = animation(panels, given.every, given.height, given.out.suffix, given.quality)
    files.put(given.out, content)
    sys.stdout.write(f"{given.out}  {len(content) / 1e6:.2f} MB\n")


if __name__ == "__main__":
    sys.exit(main())
