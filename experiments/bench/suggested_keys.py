"""Suggested key frames against evenly spaced ones, at an equal number of key frames.

``python -m experiments.bench.suggested_keys`` writes a table to standard output. Key frames are the
true translations of clips of the demo world, so that all that is measured is what propagation
makes of them: PSNR to the truth over all frames of a clip.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from rerender.contracts import Propagation
from rerender.data.demo import Demo
from rerender.demo.motion import MOTIONS
from rerender.demo.world import HELD_OUT
from rerender.exits import Parser, command
from rerender.flow.dis import Dis
from rerender.keyframes.error import Error
from rerender.keyframes.scene_cut import SceneCut
from rerender.keyframes.uniform import Uniform
from rerender.propagate import propagate
from rerender.propagation.patchmatch import PatchMatch
from rerender.propagation.warp import Warp
from rerender.scene import Trace, Translation
from rerender.video import Clip, KeyFrame

KINDS: dict[str, type[Propagation]] = {"patchmatch": PatchMatch, "warp": Warp}


def painted(clip: Clip, shots: Sequence[Sequence[int]], propagation: Propagation) -> float:
    """PSNR in dB to the truth of a clip whose key frames are the truth."""
    assert clip.truth is not None

    def key(index: int, shot: int) -> Translation:
        image = clip.truth.translation(index) if clip.truth else None
        assert image is not None
        return Translation(KeyFrame(index, clip.video[index], shot=shot), Trace(image=image))

    keys = [key(index, number) for number, shot in enumerate(shots) for index in shot]
    flow, errors = Dis().open(clip), []
    for index, image in enumerate(propagate(clip.video, keys, propagation, flow)):
        truth = clip.truth.translation(index)
        assert truth is not None
        errors.append(float((image - truth).square().mean()))
    return float(-10 * np.log10(np.mean(errors)))


def compared(
    motion: str, seed: int, interval: int, frames: int, propagation: Propagation
) -> tuple[int, float, float]:
    """The number of key frames, and PSNR of evenly spaced and of suggested ones. A clip with a cut
    gets the evenly spaced ones of each shot."""
    (clip,) = Demo(seeds=(seed,), motion=motion, frames=frames).clips()
    even: Uniform | SceneCut = Uniform(interval=interval)
    if motion == "cut":
        even = SceneCut(interval=interval)
    spaced = even.pick(clip.video)
    budget = sum(map(len, spaced))
    chosen = Error(tolerance=0, budget=budget).pick(clip.video)
    return budget, painted(clip, spaced, propagation), painted(clip, chosen, propagation)


@torch.inference_mode()
def table(
    seeds: Sequence[int], intervals: Sequence[int], frames: int, kind: str, motions: Sequence[str]
) -> Iterator[str]:
    """Markdown, line by line as it is found: a row for each motion and interval, and the means."""
    yield f"| {kind} | key frames | evenly spaced | suggested | gain, dB |"
    yield "|---|---|---|---|---|"
    for interval in intervals:
        gains = []
        for motion in motions:
            made = [compared(motion, seed, interval, frames, KINDS[kind]()) for seed in seeds]
            counts, even, chosen = map(np.mean, zip(*made, strict=True))
            gains.append(chosen - even)
            values = f"{counts:.1f} | {even:.2f} | {chosen:.2f} | {chosen - even:+.2f}"
            yield f"| {motion}, every {interval} | {values} |"
        yield f"| mean, every {interval} | | | | {np.mean(gains):+.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.bench.suggested_keys", description=__doc__)
    parser.add_argument("--clips", type=int, default=3, help="clips of each motion")
    parser.add_argument("--intervals", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--propagation", choices=[*KINDS], default="patchmatch")
    parser.add_argument("--motions", choices=MOTIONS, nargs="+", default=list(MOTIONS))
    given = parser.parse_args(arguments)
    seeds = range(HELD_OUT, HELD_OUT + given.clips)
    lines = table(seeds, given.intervals, given.frames, given.propagation, given.motions)
    for line in lines:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
