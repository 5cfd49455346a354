"""How much memory whole commands hold, by the length of the video.

    python -m experiments.bench.memory --out experiments/bench/memory.md

Every command runs twice in a process of its own, on a short and on a long video of the same kind.
The slope, in MiB a frame, is what a longer video costs: frames, flows and packets must not stay.
``--case`` chooses commands, ``--frames`` the two lengths.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender import files
from rerender.codec import encode
from rerender.video import Video

ROOT = Path(__file__).resolve().parents[2]
FRAMES = (200, 3200)
LIMIT = 0.02  # MiB a frame
SMALL, LARGE = (96, 128), (288, 384)
EVERY = 40  # frames between key frames
RUN = [
    "rerender.run",
    "prompt=oil",
    "model=tiny",
    "sampling.steps=2",
    "sampling.strength=1",
    "constraint=[]",
    f"keyframes.interval={EVERY}",
    "tracker=none",
    "store=null",
    "out=out",
]
CHEAP = "metrics=[warp_error,motion_kept,flicker,color_drift,fidelity,integrity]"


@dataclass(frozen=True)
class MemoryRow:
    """What a command held.

    Attributes:
        case: the command.
        frames: lengths of the two videos.
        peaks: the most memory held, in MiB.
    """

    case: str
    frames: tuple[int, int]
    peaks: tuple[float, float]

    @property
    def slope(self) -> float:
        """MiB for each further frame."""
        return (self.peaks[1] - self.peaks[0]) / (self.frames[1] - self.frames[0])


def _hold(frames: int, place: Path) -> list[str]:
    path = written(place / "source.mp4", frames, SMALL)
    return [*RUN, "data=video", f"data.path={path}", "propagation=hold", "metrics=[]"]


def _default(frames: int, place: Path) -> list[str]:
    path = written(place / "source.mp4", frames, SMALL)
    return [*RUN, "data=video", f"data.path={path}", CHEAP]


def _large(frames: int, place: Path) -> list[str]:
    path = written(place / "source.mp4", frames, LARGE)
    given = [f"data.path={path}", "data.size=128", "propagation=warp", "metrics=[warp_error]"]
    return [*RUN, "data=video", *given]


def _demo(frames: int, place: Path) -> list[str]:
    return [*RUN, "data=demo", "data.size=64", f"data.frames={frames}", "propagation=hold", CHEAP]


def _pictures(frames: int, place: Path) -> list[str]:
    path = pictured(place / "source", frames)
    return [*RUN, "data=folder", f"data.path={path}", "propagation=hold", "metrics=[warp_error]"]


def _score(frames: int, place: Path) -> list[str]:
    path = written(place / "source.mp4", frames, SMALL)
    written(place / "results" / "mine" / "source.mp4", frames, SMALL)
    clip = ["data=video", f"data.path={path}", "prompt=oil"]
    return ["eval.score", str(place / "results"), *clip, "metrics=[warp_error,fidelity]"]


def _report(frames: int, place: Path) -> list[str]:
    _, *settings = _score(frames, place)
    return ["experiments.report", *settings, "--score"]


def _propagate(frames: int, place: Path) -> list[str]:
    path = written(place / "source.mp4", frames, SMALL)
    keys = pictured(place / "keys", frames, EVERY)
    result = ["--out", str(place / "result.mp4"), "--one-shot"]
    return ["rerender.propagate_keys", "--video", str(path), "--keys", str(keys), *result]


CASES: dict[str, Callable[[int, Path], list[str]]] = {
    "run, hold, no metrics, 96x128": _hold,
    "run, patchmatch, six metrics, 96x128": _default,
    "run, warp, warp_error, 288x384": _large,
    "run, demo world, six metrics, 64x64": _demo,
    "run, folder of pictures, warp_error, 96x128": _pictures,
    "eval.score, two metrics and floors, 96x128": _score,
    "experiments.report --score, 96x128": _report,
    "rerender.propagate, patchmatch, 96x128": _propagate,
}
"""Each makes its input in a folder and gives the module and the arguments to run."""


def measure(case: str, frames: tuple[int, int] = FRAMES) -> MemoryRow:
    """One command at both lengths.

    Raises:
        RuntimeError: the command failed.
    """
    short, long = (_peak(case, count) for count in frames)
    return MemoryRow(case, frames, (short, long))


def _peak(case: str, frames: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        command = [sys.executable, "-m", __spec__.name, "--child", *CASES[case](frames, place)]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{case}: code {done.returncode}\n{done.stderr[-2000:]}")
        return float(done.stderr.splitlines()[-1])


def child(module: str, arguments: Sequence[str]) -> int:
    """Run a command in this process; the last line of standard error is its peak in MiB.

    Runs reset the kernel's own high-water mark, so memory is looked at again and again too.
    """
    with watched() as seen:
        code: int = importlib.import_module(module).main(arguments)
    sys.stderr.write(f"{max(seen) / 2**20:.1f}\n")
    return code


@contextmanager
def watched(every: float = 0.02) -> Iterator[list[int]]:
    """The memory that this process holds while the block runs, in bytes: a list of one peak."""
    seen, over, page = [0], threading.Event(), os.sysconf("SC_PAGE_SIZE")

    def look() -> None:
        with Path("/proc/self/statm").open("rb", buffering=0) as file:
            while not over.wait(every):
                file.seek(0)
                seen[0] = max(seen[0], int(file.read().split()[1]) * page)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


class Pattern(Video):
    """A pattern that moves two pixels a frame."""

    def __init__(self, frames: int, size: tuple[int, int]) -> None:
        height, width = size
        dice = torch.Generator().manual_seed(0)
        noise = torch.rand((1, 3, height // 8, width // 8), generator=dice)
        grown = F.interpolate(noise, size, mode="bicubic", align_corners=True)
        self._pattern = grown[0].clamp(0, 1)
        self._times = tuple(Fraction(index, 25) for index in range(frames))

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._pattern.shape[1:]
        return height, width

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return self._times

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._pattern.roll(2 * index, 2)


def written(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """A video file of the pattern."""
    video = Pattern(frames, size)
    with files.writing(path) as file:
        encode((video[index] for index in range(frames)), video, file)
    return path


def pictured(folder: Path, frames: int, every: int = 1) -> Path:
    """A folder of pictures of the pattern, named by their frames."""
    video = Pattern(frames, SMALL)
    for index in range(0, frames, every):
        files.put(folder / f"{index:06d}.png", files.png(video[index]))
    return folder


def table(rows: Sequence[MemoryRow]) -> str:
    """The figures as a page."""
    lines = [
        "# What a longer video costs in memory",
        "",
        f"`python -m experiments.bench.memory`, {date.today()}, commit {_commit()}.",
        "",
        "The most memory that a command holds (RSS, in a process of its own), at two lengths of",
        "the same video. About 1,000 MiB of it are libraries. The slope must not pass",
        f"{LIMIT} MiB a frame.",
        "",
        "| command | frames | MiB | frames | MiB | MiB a frame |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        (short, long), (low, high) = row.frames, row.peaks
        lines.append(
            f"| {row.case} | {short:,} | {low:,.0f} | {long:,} | {high:,.0f} | {row.slope:.4f} |"
        )
    return "\n".join(lines) + "\n"


def _commit() -> str:
    with suppress(OSError):
        asked = ["git", "rev-parse", "--short", "HEAD"]
        found = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
        return found.stdout.strip() or "unknown"
    return "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page; 1 where a slope is above the limit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--child"]:
        return child(given[1], given[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one")
    parser.add_argument("--frames", type=int, nargs=2, default=FRAMES)
    options = parser.parse_args(given)
    rows: list[MemoryRow] = []
    for case in options.case or CASES:
        rows.append(measure(case, (options.frames[0], options.frames[1])))
        sys.stdout.write(f"{rows[-1]}  {rows[-1].slope:.4f}\n")
        sys.stdout.flush()
        files.put(options.out, table(rows).encode())
    return int(any(row.slope > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
