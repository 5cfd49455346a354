"""Propagation against clips whose motion and true translation are known.

    python -m experiments.bench.propagation.world [--seeds N]

The referee is no method's own flow. Key frames are true translations ten frames apart; each frame
between is compared with its own true translation. Writes propagation_world.json and .md beside
this file.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

import cv2
import numpy as np
import torch

from experiments.bench.propagation.__main__ import HERE, choice, commit
from rerender import files
from rerender.contracts import FlowEstimator
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis import Dis
from rerender.flow.truth import TruthFlow
from rerender.video import Clip, Frame, Segment

INTERVAL = 10
MOTIONS = ("slow", "fast", "crossing", "zoom")
METHODS = ("hold", "nearest", "warp", "patchmatch", "published")
FLOWS: dict[str, FlowEstimator] = {"dis": Dis(), "truth": TruthFlow()}


def main() -> None:
    """Measure, write the results and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8, help="clips of each kind of motion")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = [row for motion in MOTIONS for row in measured(motion, seeds)]
    head = {"date": date.today().isoformat(), "commit": commit()}
    head["command"] = f"python -m experiments.bench.propagation.world --seeds {seeds}"
    files.put_json(HERE / "world.json", {**head, "rows": rows})
    lines = ["# Propagation in the demo world", "", f"{head['date']}, commit {head['commit']}: "]
    lines[-1] += f"`{head['command']}`. PSNR in dB by distance from the nearer key frame."
    lines += [
        "",
        "| motion | flow | method | 1 | 2 | 3 | 4 | 5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = " | ".join(f"{value:.2f}" for value in row["psnr"])
        lines.append(f"| {row['motion']} | {row['flow']} | {row['method']} | {values} |")
    files.put(HERE / "world.md", "\n".join([*lines, ""]).encode())
    print(HERE / "world.md")


def measured(motion: str, seeds: int) -> Iterator[dict[str, Any]]:
    """Every method with every flow on clips of one kind of motion."""
    data = Demo(tuple(range(HELD_OUT, HELD_OUT + seeds)), motion, INTERVAL + 1)
    clips = data.clips()
    for flow in FLOWS:
        for method in METHODS:
            errors: dict[int, list[float]] = defaultdict(list)
            for clip in clips:
                for distance, error in compared(clip, method, FLOWS[flow].open(clip)):
                    errors[distance].append(error)
            psnr = [float(-10 * np.log10(np.mean(errors[d]))) for d in sorted(errors)]
            yield {"motion": motion, "flow": flow, "method": method, "psnr": psnr}


def compared(clip: Clip, method: str, flow: FlowEstimator) -> Iterator[tuple[int, float]]:
    """Distance from the nearer key frame and mean squared error of each frame between."""
    truth = [translation(clip, index) for index in range(INTERVAL + 1)]
    first, last = Frame(0, truth[0]), Frame(INTERVAL, truth[INTERVAL])
    segment = Segment(clip.video, 1, INTERVAL, first, last)
    for index, image in enumerate(choice(method).fill(segment, flow), start=1):
        error = float((image - truth[index]).square().mean())
        yield min(index, INTERVAL - index), error


def translation(clip: Clip, index: int) -> torch.Tensor:
    """A frame as its prompt asks for it."""
    found = clip.truth.translation(index) if clip.truth else None
    if found is None:
        raise SystemExit(f"{clip.name}: has no true translation of frame {index}")
    return found


if __name__ == "__main__":
    main()
