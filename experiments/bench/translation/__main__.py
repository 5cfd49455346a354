"""What it costs to translate a key frame, against the original's order of operations.

    python -m experiments.bench.translation --out experiments/bench/translation/translation.md

The straight order runs both passes of every key frame in full, the steps before the injected
source included, and the two guidance branches one after the other. Ours skips what is thrown away,
shares the beginning of the passes, and batches branches and lanes. All rows are measured in one
process, in turn, and the median of the rounds is shown; results agree to float tolerance.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from rerender import files
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.config.parts import Parts
from rerender.contracts import Condition, Model, NoiseRequest
from rerender.scene import Layer, Translation
from rerender.translate import translate
from rerender.translation.key_frame import KeyFrameTranslator
from rerender.video import Clip

Attend = Callable[[Layer, Tensor], Tensor]


@dataclass(frozen=True)
class TimingRow:
    """One way of doing the work.

    Attributes:
        name: what the row is called.
        parts: the parts of the run.
        apart: whether guidance branches run one after the other.
        whole: whether both passes run in full, from the first step of the schedule.
    """

    name: str
    parts: Parts
    apart: bool = False
    whole: bool = False


class CountedModel:
    """A model that counts calls and samples, and may run guidance branches apart."""

    def __init__(self, model: Model, apart: bool) -> None:
        self.model, self.apart = model, apart
        self.calls = self.samples = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        """As the model's own, counted."""
        branches = requests[0].condition.prompt_embeds.shape[0]
        self.calls += branches if self.apart else 1
        self.samples += branches * len(requests)
        if not self.apart:
            return self.model.predict_noise(requests)
        return [self._one_by_one(request, branches) for request in requests]

    def _one_by_one(self, request: NoiseRequest, branches: int) -> Tensor:
        seen: dict[str, list[Tensor]] = {}
        parts = []
        for branch in range(branches):
            told = request.condition
            condition = Condition(told.prompt_embeds[branch : branch + 1], told.control_embeds)
            attend = request.attend and _one_branch(request.attend, branch, branches, seen)
            alone = request._replace(condition=condition, attend=attend)
            [part] = self.model.predict_noise([alone])
            parts.append(part)
        return torch.cat(parts)


def _one_branch(
    attend: Attend, branch: int, branches: int, seen: dict[str, list[Tensor]]
) -> Attend:
    """Ask for one branch; those not run yet are stood in for, and recorded when they are."""

    def one(layer: Layer, tokens: Tensor) -> Tensor:
        known = [*seen.setdefault(layer.name, []), tokens]
        seen[layer.name] = known
        filled = known + [tokens] * (branches - len(known))
        return attend(layer, torch.cat(filled))[branch : branch + 1]

    return one


def measure(row: TimingRow, model: Model, clip: Clip, keys: Sequence[int]) -> dict[str, float]:
    """Time, counts and memory of one translation of all key frames."""
    counted: Any = CountedModel(model, row.apart)
    parts = replace(row.parts, flow=row.parts.flow.open(clip))
    results: list[Translation] = []
    with patch.object(KeyFrameTranslator, "fork", lambda self: 0) if row.whole else patch.dict({}):
        wall, cpu = time.perf_counter(), time.process_time()
        for result in translate(clip, [keys], counted, parts):
            results.append(result)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    share = len(keys)
    return {
        "calls": counted.calls / share,
        "samples": counted.samples / share,
        "wall": wall / share,
        "cpu": cpu / share,
        "trace": max(result.trace.nbytes() for result in results) / 2**20,
    }


def rows(parts: Parts, strength: float | None, lanes: Sequence[int]) -> list[TimingRow]:
    """The straight order, then ours with more and more lanes."""
    sampling = replace(parts.sampling, strength=strength, windows="schedule", batch_size=1)
    full = replace(parts, sampling=replace(sampling, strength=None))
    label = "pure noise" if strength is None else f"strength {strength}"
    ours = replace(parts, sampling=sampling)
    found = [TimingRow(f"straight order, {label}", full, apart=True, whole=True)]
    for count in lanes:
        more = replace(ours, sampling=replace(sampling, batch_size=count))
        found.append(TimingRow(f"ours, {label}, batch_size={count}", more))
    return found


def run(given: argparse.Namespace) -> str:
    """All rows at all numbers of threads, as a markdown page."""
    overrides = ["constraint=[cross_frame,color,shape,pixel]", *given.overrides]
    chosen = Job.of(preflight(overrides).jobs[0])
    model = chosen.model.load(chosen.parts.names())
    [clip] = chosen.data.clips()
    keys = chosen.parts.keyframes.pick(clip.video)[0]
    lines = [
        "# Cost of a key frame",
        "",
        f"{date.today()}, {platform.machine()}, torch {torch.__version__}, {clip.video.size}, "
        f"{len(keys)} key frames, median of {given.rounds} rounds. "
        f"`{' '.join(['python -m experiments.bench.translation.__main__', *sys.argv[1:]])}`",
        "",
        "Per key frame, the anchor included: network calls, samples through the network (a sample "
        "is one guidance branch of one frame), wall and CPU seconds; and the largest trace.",
        "",
        "| threads | order | calls | samples | wall s | CPU s | against straight | trace MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for threads in given.threads:
        torch.set_num_threads(threads)
        for strength in (None, 0.75):
            table = rows(chosen.parts, strength, given.lanes)
            rounds = [[measure(r, model, clip, keys) for r in table] for _ in range(given.rounds)]
            lines += [*_lines(threads, table, rounds)]
    return "\n".join(lines) + "\n"


def _lines(threads: int, table: Sequence[TimingRow], rounds: Sequence[Sequence[Any]]) -> list[str]:
    medians = [
        {key: statistics.median(r[index][key] for r in rounds) for key in rounds[0][index]}
        for index in range(len(table))
    ]
    ratios = [
        statistics.median(r[index]["wall"] / r[0]["wall"] for r in rounds)
        for index in range(len(table))
    ]
    return [
        f"| {threads} | {row.name} | {m['calls']:.1f} | {m['samples']:.1f} | {m['wall']:.3f} "
        f"| {m['cpu']:.3f} | {ratio:.2f} | {m['trace']:.2f} |"
        for row, m, ratio in zip(table, medians, ratios, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/bench/translation/translation.md")
    )
    parser.add_argument("overrides", nargs="*", help="further overrides, such as model=tiny")
    given = parser.parse_args()
    files.put(given.out, run(given).encode())
    sys.stdout.write(f"{given.out}\n")


if __name__ == "__main__":
    main()
