"""What the stage store saves and what it costs, on the demo world with the demo model.

    python -m experiments.bench.store --out experiments/bench/store/stages.md

Each sweep runs twice in one process, its jobs one after the other: once with one store for all of
them, once with a store for each job, which shares nothing. Then every job runs again from the full
store. What the store costs is the time in its own functions: hashing, reading, writing, syncing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from rerender import files
from rerender.config.compose import Sweep, preflight
from rerender.config.job import Job
from rerender.jobs.run_job import run_job
from rerender.store import cache as cache_room
from rerender.store import key_frames
from rerender.store.checkpoint import Loading
from rerender.store.stage_keys import Stages

SMALL = ["tracker=none", "data.frames=24", "metrics=[warp_error,fidelity]", "seed=0,1"]
SWEEPS = {
    "propagation: 6 methods x 2 seeds": ["+exp=propagation", *SMALL],
    "ablation_shape: 6 variants x 2 seeds": ["+exp=ablation_shape", *SMALL],
}
CLIPS = "data.seeds=[1000000,1000001]"


@dataclass(frozen=True)
class SweepRow:
    """What a sweep took, in seconds.

    Attributes:
        name: the sweep.
        jobs: how many.
        shared: with one store for all jobs.
        apart: with a store for each.
        again: from the full store.
        cost: inside the store's functions, with one store for all jobs.
    """

    name: str
    jobs: int
    shared: float
    apart: float
    again: float
    cost: float


class Costs:
    """The time inside functions, of which none counts twice."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            self._depth += 1
            begun = time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - begun

        return counted


@contextmanager
def costs() -> Iterator[Costs]:
    """Count the time in the stage store: its files, their sums, and the keys."""
    found = Costs()
    members = [
        *((cache_room.Work, name) for name in ("put", "commit", "finish", "resume", "read")),
        *((cache_room.Cache, name) for name in ("find", "get", "put")),
        (key_frames, "save"),
        (key_frames, "load"),
        (files, "copy"),
        (files, "sweep"),
        (Stages, "score"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name in members:
            counted = found.counted(getattr(owner, name))
            stack.enter_context(patch.object(owner, name, counted))
        for name in ("keys", "video"):
            stack.enter_context(
                patch.object(
                    Stages.__dict__[name], "func", found.counted(Stages.__dict__[name].func)
                )
            )
        yield found


def measure(name: str, sweep: Sweep, place: Path) -> SweepRow:
    """All jobs of a sweep with a shared store, apart, and again."""
    trees = [dict(tree) for tree in sweep.jobs]
    with costs() as found:
        shared = _seconds(trees, place / "shared", lambda number: place / "store")
    apart = _seconds(trees, place / "apart", lambda number: place / f"store-{number}")
    again = _seconds(trees, place / "again", lambda number: place / "store")
    _agree(place)
    return SweepRow(name, len(trees), shared, apart, again, found.seconds)


def _seconds(trees: Sequence[dict[str, Any]], place: Path, root: Callable[[int], Path]) -> float:
    begun = time.perf_counter()
    for number, tree in enumerate(trees):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run_job({**tree, "store": str(root(number))}, place / str(number), "")
    return time.perf_counter() - begun


def _agree(place: Path) -> None:
    for path in sorted((place / "shared").rglob("video.mp4")):
        others = [place / way / path.relative_to(place / "shared") for way in ("apart", "again")]
        if any(path.read_bytes() != other.read_bytes() for other in others):
            raise RuntimeError(f"{path} differs from the one made without the store")


def start_up(place: Path) -> tuple[float, float]:
    """Seconds of a command of one job, at first and with everything in the store (median of 3)."""
    arguments = [
        "+exp=smoke",
        "model=demo",
        "tracker=none",
        "store=" + str(place / "store"),
        "out=",
    ]
    command = [sys.executable, "-m", "rerender.run", *arguments]
    times = []
    for number in range(4):
        command[-1] = f"out={place / str(number)}"
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ})
        times.append(time.perf_counter() - begun)
    return times[0], sorted(times[1:])[1]


def table(rows: Sequence[SweepRow], start: tuple[float, float]) -> str:
    """The figures as a page."""
    lines = [
        "# What the stage store saves and costs",
        "",
        f"`python -m experiments.bench.store`, {date.today()}, {platform.processor() or 'CPU'}, "
        f"{torch.get_num_threads()} threads, commit {_commit()}.",
        "",
        "Two demo clips of 24 frames, demo model, two metrics. All three ways gave the same bytes.",
        "",
        "| sweep | jobs | store for each job, s | one store, s | factor | again, s | cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.jobs} | {row.apart:.1f} | {row.shared:.1f} | "
            f"{row.apart / row.shared:.2f} | {row.again:.1f} | {row.cost / row.shared:.1%} |"
        )
    lines += [
        "",
        f"A command of one small job, from the shell to its end: {start[0]:.1f} s at first, "
        f"{start[1]:.1f} s (median of 3) with everything in the store: the model is not loaded.",
        "",
        "Variants of a constraint differ in every key frame: the first run of such a sweep shares",
        "next to nothing. Sweeps over propagation, filters and metrics share the diffusion, and so",
        "does every sweep that is run again or goes on.",
    ]
    return "\n".join(lines) + "\n"


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    place = Path(tempfile.mkdtemp())
    try:
        rows = []
        for number, (name, given) in enumerate(SWEEPS.items()):
            sweep = preflight([*given, CLIPS], None)
            job = Job.of(sweep.jobs[0])
            Loading(job.model, job.parts.names(), None).model()  # is there for all jobs
            rows.append(measure(name, sweep, place / str(number)))
            print(rows[-1], flush=True)
        files.put(options.out, table(rows, start_up(place / "start")).encode())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
