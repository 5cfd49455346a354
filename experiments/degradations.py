"""Which metric sees which damage: ``python -m experiments.degradations``.

The true translation of demo clips is damaged in six ways, and every metric is asked whether the
damaged video is worse than the undamaged one. A metric sees a damage if it says so for every clip.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from eval import references
from eval.contracts import Metric
from eval.measure import score
from eval.references import Made
from eval.score_files import Score
from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.contracts import FlowEstimator
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.exits import Parser, command
from rerender.jobs.progress import Progress
from rerender.scene import Watch
from rerender.video import Clip, Video

Damage = Callable[[Clip, Video], Callable[[int], Tensor]]
INTACT = "intact"
CLIPS, FRAMES = 6, 21  # six clips: "worse in all of them" has p = 0.03 by the sign-flip test
METRICS = (
    "warp_error,clip_demo,lpips_demo,structure,motion_kept,flicker,color_drift,fidelity,integrity"
)


def flicker(clip: Clip, video: Video) -> Callable[[int], Tensor]:
    """The brightness of every frame is off by up to 10 %, at random."""
    gains = np.random.default_rng(0).uniform(0.9, 1.1, len(video))
    return lambda index: (video[index] * float(gains[index])).clamp(0, 1)


def drift(clip: Clip, video: Video) -> Callable[[int], Tensor]:
    """Red grows and blue fades steadily, by 0.15 at the end."""
    tint = torch.tensor([0.15, 0.0, -0.15]).view(3, 1, 1)
    return lambda index: (video[index] + tint * index / max(len(video) - 1, 1)).clamp(0, 1)


def blur(clip: Clip, video: Video) -> Callable[[int], Tensor]:
    """Every frame is blurred, sigma 2 pixels."""

    def make(index: int) -> Tensor:
        pixels = np.ascontiguousarray(video[index].permute(1, 2, 0).numpy())
        return torch.from_numpy(cv2.GaussianBlur(pixels, (0, 0), 2.0)).permute(2, 0, 1)

    return make


def wrong_style(clip: Clip, video: Video) -> Callable[[int], Tensor]:
    """The source itself: steady, and not what the prompt asks for."""
    return lambda index: clip.video[index]


def ghosting(clip: Clip, video: Video) -> Callable[[int], Tensor]:
    """Every frame is half the one four frames earlier."""
    return lambda index: (video[index] + video[max(index - 4, 0)]) / 2


def half_rate(clip: Clip, video: Video) -> Callable[[int], Tensor]:
    """Every second frame is the one before it once more."""
    return lambda index: video[index - index % 2]


DAMAGES: Mapping[str, Damage] = {
    "flicker": flicker,
    "drift": drift,
    "blur": blur,
    "wrong style": wrong_style,
    "ghosting": ghosting,
    "half frame rate": half_rate,
}


def measure(
    clips: Sequence[Clip], metrics: Sequence[Metric], flow: FlowEstimator, watch: Watch
) -> list[Score]:
    """Scores of the undamaged and the damaged translations of clips whose truth is known."""
    found: list[Score] = []
    for number, clip in enumerate(clips):
        truth = references.translation(clip)
        assert truth is not None, f"{clip.name}: the true translation is not known"
        made = {name: Made(truth, damage(clip, truth)) for name, damage in DAMAGES.items()}
        for name, video in {INTACT: truth, **made}.items():
            found += score(clip, video, metrics, flow, name)
        watch.advance("degrade", number + 1, len(clips), clip.name)
    return found


def seen(rows: Sequence[Score]) -> dict[str, dict[str, tuple[float | None, bool]]]:
    """metric -> version -> (mean over clips, whether it is worse than intact in every clip)."""
    values = {(row.metric, row.method, row.clip): row.value for row in rows}
    clips = sorted({row.clip for row in rows})
    directions = {row.metric: row.direction for row in rows}
    table: dict[str, dict[str, tuple[float | None, bool]]] = {}
    for metric, direction in directions.items():
        sign = 1.0 if direction == "lower" else -1.0
        table[metric] = {}
        for version in (INTACT, *DAMAGES):
            own = [values[metric, version, clip] for clip in clips]
            whole = [values[metric, INTACT, clip] for clip in clips]
            known = [value for value in own if value is not None]
            mean = sum(known) / len(known) if known else None
            worse = all(_worse(a, b, sign) for a, b in zip(own, whole, strict=True))
            table[metric][version] = (mean, worse)
    return table


def _worse(damaged: float | None, intact: float | None, sign: float) -> bool:
    if damaged is None:
        return False
    if intact is None:  # PSNR of the truth has no bound, so anything finite is worse
        return True
    return sign * (damaged - intact) > 1e-9 + 1e-3 * abs(intact)


def markdown(table: Mapping[str, Mapping[str, tuple[float | None, bool]]]) -> str:
    """The table; bold is seen."""
    lines = [f"| metric | {INTACT} | {' | '.join(DAMAGES)} |", "|---" * (len(DAMAGES) + 2) + "|"]
    for metric, versions in table.items():
        cells = ["n/a" if mean is None else f"{mean:.4g}" for mean, _ in versions.values()]
        shown = [
            f"**{cell}**" if worse else cell
            for cell, (_, worse) in zip(cells, versions.values(), strict=True)
        ]
        lines.append(f"| {metric} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.degradations", description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS, help="number of held-out demo clips")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    given = parser.parse_args(arguments)
    job = Job.of(preflight([f"metrics=[{METRICS}]"]).jobs[0])
    seeds = tuple(HELD_OUT + number for number in range(given.clips))
    clips = Demo(seeds=seeds, frames=FRAMES).clips()
    text = markdown(seen(measure(clips, job.metrics, job.parts.flow, Progress())))
    if given.out is not None:
        files.put(given.out, text.encode())
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())
