"""What each method costs at equal settings: the same clip, model, size and steps, one run.

    python -m experiments.bench.translation.baselines --out baselines.md

Every method of ``conf/method`` restyles the same frames of the demo world in a process of its own:
once with every frame as a key frame, once from key frames with our propagation. Loading, a first
frame that warms up, encoding and scoring are not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from rerender import files, peak_memory
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.config.paths import CONF
from rerender.contracts import NoiseRequest
from rerender.pipeline import render
from rerender.start.noised import Noised
from rerender.video import Clip, MemoryVideo


@dataclass(frozen=True)
class Cost:
    """What one method took for one clip.

    Attributes:
        method: its name.
        interval: between key frames.
        cpu: CPU seconds for each frame.
        wall: seconds for each frame.
        samples: passes of one image and one guidance branch through the network, for each frame;
            those with a gradient are counted once more in ``gradients``.
        gradients: those that kept a graph for a gradient, for each frame.
        peak: memory beyond what was held before the clip, in MiB; None where unknown.
    """

    method: str
    interval: int
    cpu: float
    wall: float
    samples: float
    gradients: float
    peak: float | None


class MeteredModel:
    """A model that counts what goes through its network."""

    def __init__(self, model: Any) -> None:
        self._model, self.samples, self.gradients = model, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict_noise(self, queries: Sequence[NoiseRequest]) -> list[Tensor]:
        for query in queries:
            branches = query.condition.prompt_embeds.shape[0]
            traced = query.noisy.requires_grad or query.condition.prompt_embeds.requires_grad
            self.samples += branches
            self.gradients += branches * traced
        answers: list[Tensor] = self._model.predict_noise(queries)
        return answers


def methods() -> list[str]:
    """Those of the comparisons, conf/exp/table2.yaml and conf/exp/table2_strong.yaml."""
    found: set[str] = set()
    for name in ("table2", "table2_strong"):
        table = yaml.safe_load((CONF / "exp" / f"{name}.yaml").read_text(encoding="utf-8"))
        found |= {*str(table["hydra"]["sweeper"]["params"]["method"]).split(",")}
    return sorted(found)


def measure(method: str, interval: int, frames: int, settings: Sequence[str]) -> Cost:
    """Cost of one method, alone in a process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given = [f"+method={method}", f"keyframes.interval={interval}", *settings]
    job = Job.of(preflight(given).jobs[0])
    model: Any = MeteredModel(job.model.load(job.parts.names()))
    whole = job.data.clips()[0]
    pictures = [whole.video[index].clone() for index in range(frames)]
    clip = replace(whole, video=MemoryVideo(pictures), truth=None)
    once(job, model, replace(clip, video=MemoryVideo(pictures[:1])))
    plain = replace(job, parts=replace(job.parts, constraint=(), start=Noised()))
    once(plain, model, replace(clip, video=MemoryVideo(pictures[:3])))  # compiles propagation
    model.samples = model.gradients = 0
    peak_memory.begin()
    before, wall, cpu = peak_memory.peak(), time.perf_counter(), time.process_time()
    count = once(job, model, clip)
    wall, cpu, after = time.perf_counter() - wall, time.process_time() - cpu, peak_memory.peak()
    assert count == frames
    beyond = None if before is None or after is None else after - before
    samples, gradients = model.samples / frames, model.gradients / frames
    return Cost(method, interval, cpu / frames, wall / frames, samples, gradients, beyond)


def once(job: Job, model: Any, clip: Clip) -> int:
    """Restyle a clip and forget it; the number of its frames."""
    return sum(1 for _ in render(clip, model, job.parts, job.seed))


def run(given: argparse.Namespace) -> str:
    """All methods, each in a fresh process, as a markdown page."""
    context, found = multiprocessing.get_context("spawn"), []
    for method in given.methods or methods():
        for interval in (1, given.interval):
            with context.Pool(1) as pool:
                found.append(pool.apply(measure, (method, interval, given.frames, given.settings)))
            sys.stderr.write(f"{found[-1]}\n")
    return page(found, given)


def page(found: Sequence[Cost], given: argparse.Namespace) -> str:
    """The costs as a table, cheapest first where every frame is a key frame."""
    first = {cost.method: cost for cost in found if cost.interval == 1}
    filled = {cost.method: cost for cost in found if cost.interval == given.interval}
    load = os.getloadavg()[0]
    said = " ".join([f"--frames {given.frames} --interval {given.interval}", *given.settings])
    lines = [
        "# Cost of each method",
        "",
        f"{date.today()}, {os.cpu_count()} CPU, {torch.get_num_threads()} thread, load {load:.1f},"
        f" torch {torch.__version__}. `python -m experiments.bench.translation.baselines {said}`",
        "",
        "Demo model, 128x128, equal steps; each method in a process of its own; propagation"
        " included, loading and encoding not. A sample is one guidance branch of one frame through"
        " the network; those with a gradient cost about three. Peak memory is what the process"
        " held beyond model and libraries.",
        "",
        "| method | CPU s/frame, every frame | wall | samples | with gradient | peak MiB |"
        f" CPU s/frame, K={given.interval} and our propagation | wall | samples | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in sorted(first.values(), key=lambda cost: cost.cpu):
        two = filled[one.method]
        lines.append(
            f"| {one.method} | {one.cpu:.3f} | {one.wall:.3f} | {one.samples:.0f} |"
            f" {one.gradients:.0f} | {_mib(one.peak)} | {two.cpu:.3f} | {two.wall:.3f} |"
            f" {two.samples:.0f} | {_mib(two.peak)} |"
        )
    return "\n".join(lines) + "\n"


def _mib(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", help="key=value, as for python -m rerender.run")
    parser.add_argument("--methods", nargs="*", help="names of conf/method; all without it")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--interval", type=int, default=4, help="K of the second half")
    parser.add_argument("--out", type=Path, help="where to write the page")
    given = parser.parse_intermixed_args(arguments)
    text = run(given)
    if given.out is not None:
        files.put(given.out, text.encode())
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
