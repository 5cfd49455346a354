"""What each constraint does on the demo world, where motion and translation are known.

    python -m experiments.bench.translation.constraints --out constraints.md
    python -m experiments.bench.translation.constraints --feature --out feature.md

Key frames of held-out clips are translated with the true flow under every variant: cumulatively in
the order of the paper's Fig. 10, and with one constraint left out. Key frames alone are scored,
as in the paper: warp error between neighbours and to the first one on true flow, distance to the
true translation. Intervals and tests are those of ``eval.stats``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from torch import Tensor

from eval import stats
from eval.measure import score
from eval.score_files import Score
from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.contracts import Model
from rerender.demo.captions import STYLES
from rerender.demo.world import HELD_OUT, MOTIONS, World
from rerender.flow.field import Flow
from rerender.jobs.progress import Progress
from rerender.translate import translate
from rerender.video import Clip, MemoryVideo, Truth

ORDER = ("cross_frame", "color", "shape", "pixel")  # cumulative order of Fig. 10
FULL = "+".join(ORDER)
METRICS = ("warp_error", "warp_error_long", "psnr", "ssim")
FEATURE = ("warp_error", "lpips_demo_neighbours", "lpips_demo", "psnr")  # its own distance, too
UNSEEN = 500  # seeds above the held-out ones, so that no default was looked at on them


@dataclass(frozen=True)
class KeyTruth:
    """The truth of a clip as seen from its key frames alone."""

    truth: Truth
    keys: Sequence[int]

    def flow(self, target: int, source: int) -> Flow:
        """Flow between two key frames."""
        return self.truth.flow(self.keys[target], self.keys[source])

    def translation(self, index: int) -> Tensor | None:
        """True translation of a key frame."""
        return self.truth.translation(self.keys[index])

    def part(self, start: int, prompt: str) -> KeyTruth:
        """The truth from a key frame on, asked for with another prompt."""
        return KeyTruth(self.truth.part(0, prompt), self.keys[start:])


def variants(feature: bool = False) -> dict[str, tuple[str, ...]]:
    """Name of each row and its constraints: cumulative, then one left out; or without the feature
    distance and with it."""
    if feature:
        return {"none": (), "feature": ("feature",)}
    grown = {"+".join(ORDER[:n]) or "none": ORDER[:n] for n in range(len(ORDER) + 1)}
    without = {f"all but {name}": tuple(c for c in ORDER if c != name) for name in ORDER[:-1]}
    return {**grown, **without}


def job(constraints: Sequence[str], prompt: str, seed: int, motion: str, more: list[str]) -> Job:
    """The default run with these constraints, true flow, and one clip."""
    overrides = [
        f"constraint=[{','.join(constraints)}]",
        "flow=truth",
        "metrics=[warp_error,fidelity,lpips_demo]",
        f"data.seeds=[{seed}]",
        f"data.motion={motion}",
        f'prompt="{prompt}"',
    ]
    absent = [f"constraint.{name}." for name in (*ORDER, "feature") if name not in constraints]
    more = [override for override in more if not override.startswith(tuple(absent))]
    return Job.of(preflight([*overrides, *more]).jobs[0])


def clips(count: int) -> Iterator[tuple[int, str, str]]:
    """Seed, motion and prompt of each clip: motions and styles take turns."""
    motions = [motion for motion in MOTIONS if motion != "cut"]
    styles = [style for style in STYLES if style != "photo"]
    for number in range(count):
        seed, motion = HELD_OUT + UNSEEN + number, motions[number % len(motions)]
        yield seed, motion, World(seed, motion=motion).prompt(styles[number % len(styles)])


def key_clip(clip: Clip, keys: Sequence[int]) -> Clip:
    """The clip that consists of the key frames only."""
    assert clip.truth is not None
    frames = MemoryVideo([clip.video[index] for index in keys])
    return replace(clip, video=frames, truth=KeyTruth(clip.truth, keys))


def measure(chosen: Job, model: Model, clip: Clip, method: str, seed: int) -> list[Score]:
    """Translate a clip of key frames and score it."""
    parts = replace(chosen.parts, flow=chosen.parts.flow.open(clip))
    results = translate(clip, [range(len(clip.video))], model, parts, seed)
    frames = MemoryVideo([result.image.clamp(0, 1) for result in results])
    return score(clip, frames, chosen.metrics, chosen.parts.flow, method, seed)


def run(count: int, seeds: int, more: list[str], feature: bool = False) -> list[Score]:
    """All rows of all variants."""
    first = job((), "x", HELD_OUT, "slow", more)
    model = first.model.load(first.parts.names())
    progress, rows = Progress(), list[Score]()
    total = count * seeds * len(variants(feature))
    for world_seed, motion, prompt in clips(count):
        for method, constraints in variants(feature).items():
            chosen = job(constraints, prompt, world_seed, motion, more)
            [whole] = chosen.data.clips()
            keys = chosen.parts.keyframes.pick(whole.video)[0]
            clip = key_clip(whole, keys)
            for seed in range(seeds):
                rows += measure(chosen, model, clip, method, seed)
                progress.advance("clips", len({(r.clip, r.method, r.seed) for r in rows}), total)
    return rows


def report(rows: Sequence[Score], command: str, feature: bool = False) -> str:
    """A markdown page: means with intervals, then each variant against none and against all."""
    summaries = {(s.method, s.metric): s for s in stats.summarise(rows)}
    count, seeds = len({r.clip for r in rows}), len({r.seed for r in rows})
    metrics = FEATURE if feature else METRICS
    what = "the feature distance" if feature else "each constraint"
    lines = [
        f"# What {what} does (demo world, true flow, key frames)",
        "",
        f"{date.today()}, {count} held-out clips x {seeds} seeds. `{command}`",
        "",
        "Mean over clips (geometric for warp errors) with 95 % t interval. Warp errors and "
        "lpips_demo: lower is better; psnr (dB) and ssim against the true translation: higher is "
        "better.",
        "",
        "| constraints | " + " | ".join(metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for method in variants(feature):
        found = [summaries[method, metric] for metric in metrics]
        cells = [f"{s.mean:.4g} [{s.low or 0:.4g}, {s.high or 0:.4g}]" for s in found]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *comparisons(rows, metrics)]) + "\n"


def comparisons(rows: Sequence[Score], metrics: Sequence[str] = METRICS) -> list[str]:
    """Paired differences to no constraint and to all of them; of warp errors relative."""
    lines = ["| metric | constraints | against | difference | 95 % | p (Holm) |", "|---" * 6 + "|"]
    for c in [each for other in ("none", FULL) for each in stats.compare(rows, other, metrics)]:
        if c.metric in metrics:
            scale, unit = (100, " %") if c.relative else (1, "")
            low, high = ((v or 0) * scale for v in (c.low, c.high))
            lines.append(
                f"| {c.metric} | {c.method} | {c.reference} | {c.difference * scale:.4g}{unit} "
                f"| [{low:.4g}, {high:.4g}] | {c.p_holm or 0:.3g} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/bench/translation/constraints.md")
    )
    parser.add_argument("overrides", nargs="*", help="further overrides, such as model=tiny")
    parser.add_argument("--feature", action="store_true", help="rows of the feature distance")
    given = parser.parse_args()
    rows = run(given.clips, given.seeds, given.overrides, given.feature)
    command = " ".join(["python -m experiments.bench.translation.constraints", *sys.argv[1:]])
    files.put(given.out, report(rows, command, given.feature).encode())
    sys.stdout.write(f"{given.out}\n")


if __name__ == "__main__":
    main()
