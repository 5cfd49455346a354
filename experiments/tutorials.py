"""The tutorials run, and their pictures made: ``python -m experiments.tutorials [PAGE …]``.

A page is its own script. Blocks marked ``sh`` are run line by line in a scratch folder, where
``walk.mp4`` stands for the reader's video. Comments say the rest: ``<!-- bring mask -->`` puts
there what a person would paint, and ``<!-- picture NAME.webp: LABEL=FILE … @ FRAME … -->`` makes a
picture of frames of videos, or of picture files, one row for each; a ``*`` stands for anything.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rerender import files, write_video
from rerender.codec import open_video
from rerender.config.paths import ROOT
from rerender.data import picture
from rerender.demo.world import HELD_OUT, World
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.jobs.contact_sheet import gallery
from rerender.studio.settings import StudioSettings, keys_of, yaml_of
from rerender.video import MemoryVideo

PAGES = ROOT / "docs" / "tutorials"
QUALITY = 80  # of WebP
_WORLD = World(HELD_OUT + 3, frames=61)
_STEP = re.compile(r"^```sh\n(.*?)^```$|^<!-- (bring|picture) (.*?) -->$", re.M | re.S)
_PROGRAMS = ("rerender.run", "rerender.propagate", "experiments.report", "experiments.tables")


class PageStep(NamedTuple):
    """A thing to be done: what kind, "sh", "bring" or "picture", and what it says."""

    kind: str
    text: str


def steps(text: str) -> list[PageStep]:
    """What a page asks to be done, in order."""
    found = []
    for match in _STEP.finditer(text):
        if match[2]:
            found.append(PageStep(match[2], match[3]))
        else:
            joined = match[1].replace("\\\n", " ")
            found += [PageStep("sh", line.strip()) for line in joined.splitlines() if line.strip()]
    return found


def make(page: Path, folder: Path, more: Sequence[str] = ()) -> dict[str, bytes]:
    """Do what a page says.

    Args:
        page: a page in markdown.
        folder: an empty folder, in which it is done.
        more: settings added to each run.

    Returns:
        The pictures it asks for, by name.

    Raises:
        InputError: a command of the page fails, or a step is of no known kind.
    """
    bring_clip(folder)
    pictures = {}
    for step in steps(page.read_text(encoding="utf-8")):
        if step.kind == "sh":
            _run(page, step.text, folder, more)
        elif step.kind == "bring":
            if step.text not in BROUGHT:
                raise InputError(page, f"brings {step.text!r}, which is not known", "correct it")
            BROUGHT[step.text](folder)
        else:
            name, _, rows = step.text.partition(":")
            pictures[name] = drawn(rows, folder)
    return pictures


def argv(page: Path, line: str) -> list[str]:
    """The arguments of a command of a page.

    Raises:
        InputError: it is not one that pages may run.
    """
    words = shlex.split(line)
    if words[:2] != ["python", "-m"] or words[2] not in _PROGRAMS:
        raise InputError(page, f"runs {line!r}", f"run python -m {', '.join(_PROGRAMS)}")
    return words[2:]


def _run(page: Path, line: str, folder: Path, more: Sequence[str]) -> None:
    words = argv(page, line)
    added = more if words[0] == "rerender.run" else ()
    made = subprocess.run(
        [sys.executable, "-m", *words, *added], cwd=folder, capture_output=True, text=True
    )
    if made.returncode:
        said = (made.stderr.strip().splitlines() or ["nothing"])[-1]
        raise InputError(page, f"{line!r} ended with {made.returncode}: {said}", "correct it")


def drawn(rows: str, folder: Path) -> bytes:
    """A WebP of the rows ``LABEL=FILE … @ FRAME …``, a column for each frame."""
    named, _, numbers = rows.partition("@")
    frames = [int(number) for number in numbers.split()]
    images: list[Tensor] = []
    captions = []
    for row in shlex.split(named):
        label, _, name = row.partition("=")
        path = max(folder.glob(name), default=folder / name)  # of a run by its hash
        if path.suffix in (".png", ".webp"):
            images.append(picture.read(path).image)
            captions.append(label)
            continue
        video = open_video(path)
        images += [video[frame] for frame in frames]
        captions += [f"{label} {frame}" for frame in frames]
    columns = len(frames) if frames else len(images)
    page = gallery(images, captions, columns)
    levels = page.mul(255).round().byte().permute(1, 2, 0).numpy()
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def bring_clip(folder: Path) -> None:
    """``walk.mp4``, the reader's video: a clip of the demo world."""
    frames = [_WORLD.frame(index) for index in range(_WORLD.frames)]
    write_video(folder / "walk.mp4", frames, MemoryVideo(frames))


def bring_mask(folder: Path) -> None:
    """``mask.png``: what moves is white in frame 0, as one would paint it."""
    white = (_WORLD.layers(0) > 0).float()
    files.put(folder / "mask.png", files.png(white.expand(3, -1, -1)))


def bring_painted(folder: Path) -> None:
    """``painted/000030.png``: frame 30 of a finished run with a yellow disc painted on what moves,
    beside the run's other key frames."""
    for key in sorted((folder / "in_oil" / "keys").glob("*.png")):
        files.copy(key, folder / "painted" / key.name)
    where = (_WORLD.layers(30) > 0).reshape(_WORLD.size).numpy()
    y, x = np.mgrid[: where.shape[0], : where.shape[1]]
    rows, columns = np.nonzero(where)
    disc = (y - rows.mean()) ** 2 + (x - columns.mean()) ** 2 < 9**2
    for name in sorted((folder / "painted").glob("*.png")):
        if int(name.stem) == 30:
            image = picture.read(name).image
            mark = torch.from_numpy(disc)
            yellow = torch.tensor([1.0, 0.85, 0.1]).view(3, 1, 1)
            files.put(name, files.png(torch.where(mark, yellow, image)))


def bring_look(folder: Path) -> None:
    """``mine/exp/studio_look.yaml``: what the studio saves of settings of its page."""
    asked = StudioSettings(
        clip="0" * 16, prompt="mosaic", frames=21, size=128, constraints=["cross_frame", "color"]
    )
    text = yaml_of(keys_of(asked, Path("walk.mp4"), None, None), (), "studio_look")
    files.put(folder / "mine" / "exp" / "studio_look.yaml", text.encode())


BROUGHT: Mapping[str, Callable[[Path], None]] = {
    "mask": bring_mask,
    "painted": bring_painted,
    "look": bring_look,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.tutorials", description=__doc__)
    parser.add_argument("pages", nargs="*", help="names of pages; all where none is said")
    given = parser.parse_args(arguments)
    known = {page.stem: page for page in sorted(PAGES.glob("*.md"))}
    for name in given.pages:
        if name not in known:
            raise ConfigError("pages", f"there is no page {name!r}", f"take {', '.join(known)}")
    with tempfile.TemporaryDirectory() as folder:  # one for all: they share the stage store
        for name in given.pages or known:
            for file, data in make(known[name], Path(folder)).items():
                files.put(PAGES / file, data)
                sys.stdout.write(f"{PAGES / file}  {len(data) / 1e3:.0f} kB\n")
                sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
