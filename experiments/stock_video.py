"""Rows of a comparison made by a stock video-to-video pipeline of diffusers, from local weights.

    python -m experiments.stock_video --weights FOLDER --method wan --out results/table2_strong \
        +exp=table2_strong data.frames=17 seed=0,1
    python -m experiments.report results/table2_strong --score

Clips, prompts, seeds, the control and ``sampling.steps, strength, guidance`` are those of the
settings; frames go to ``OUT/METHOD/CLIP/seed-N/``, where tables and the report page look.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from rerender import files
from rerender.config.compose import literal, preflight
from rerender.errors import ConfigError
from rerender.exits import Parser, command
from rerender.video import Clip, Frame

if TYPE_CHECKING:
    from rerender.config.job import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code (see `rerender.exits`)."""
    return command(run, arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="python -m experiments.stock_video", description=__doc__)
    result.add_argument("--weights", type=Path, required=True, metavar="FOLDER", help="pipeline")
    result.add_argument("--pipeline", metavar="CLASS", help="if not the one the folder names")
    result.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a network that the folder does not have: motion_adapter, controlnet",
    )
    result.add_argument("--method", required=True, metavar="NAME", help="the row's name")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="results folder")
    result.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    result.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    result.add_argument("--debug", action="store_true", help="show tracebacks")
    result.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of rerender.run")
    return result


def run(arguments: list[str]) -> None:
    """Refuse what cannot work, then make and write the frames of every clip and seed."""
    options = parser().parse_args(arguments)
    if not re.fullmatch(r"\w[\w.+-]{0,99}", options.method):
        raise ConfigError("--method", f"is no name, received {options.method!r}", "use letters")
    parts = {name: Path(folder) for name, _, folder in (p.partition("=") for p in options.part)}
    composed = preflight(literal(options.settings)).jobs
    from rerender.config.job import Job  # loads what computes
    from rerender.store.run_identity import check_apart

    # Rows of a sweep that differ in what a stock pipeline does not know are one row here.
    jobs = {job.seed: job for job in (Job.of(tree) for tree in reversed(composed))}
    files.check_writable(options.out, "--out")
    for tree in composed:
        check_apart(tree, options.out)

    import torch

    from rerender.model._stock_video import StockVideo

    clips = {seed: list(job.data.clips()) for seed, job in sorted(jobs.items())}
    for seed, found in clips.items():
        for control, clip in product(jobs[seed].parts.control[:1], found):
            control.check(clip)
    stock = StockVideo.load(options.weights, options.pipeline, parts, getattr(torch, options.dtype))
    for clip in (each for found in clips.values() for each in found):
        stock.check(clip.video.size, len(clip.video))
    stock.pipeline.to(options.device)
    for seed, found in clips.items():
        for clip in found:
            begun = time.perf_counter()
            folder = options.out / options.method / clip.name / f"seed-{seed}"
            frames = stock.restyle(request(jobs[seed], clip))
            for number, frame in enumerate(frames, 1):
                files.put(folder / f"{number:04d}.png", files.png(frame))
            seconds = (time.perf_counter() - begun) / len(frames)
            sys.stdout.write(f"{folder}: {len(frames)} frames, {seconds:.2f} s a frame\n")


def request(job: Job, clip: Clip):  # type: ignore[no-untyped-def]  # torch comes late
    """What a pipeline is asked for one clip of a job."""
    from rerender.model._stock_video import StockRequest

    frames = [clip.video[index] for index in range(len(clip.video))]
    opened = [control.open(clip) for control in job.parts.control[:1]]
    shown = [Frame(index, frame) for index, frame in enumerate(frames)]
    controls = [control.frame_map(frame) for control in opened for frame in shown]
    sampling, duration = job.parts.sampling, float(clip.video.end - clip.video.timestamps[0])
    return StockRequest(
        frames,
        controls,
        clip.prompt,
        clip.negative_prompt,
        job.seed,
        sampling.steps,
        sampling.strength,
        sampling.guidance,
        len(frames) / duration,
    )


if __name__ == "__main__":
    sys.exit(main())
