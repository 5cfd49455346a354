"""How good flow is, by estimator, and what propagation makes of it.

    python -m experiments.bench.flow CLIPS [--raft FILE ...] [--gmflow REPO FILE]
                                     [--flows NAME ...] [--only CLIP-OR-MOTION ...]

CLIPS is a folder that holds the three clips. Without files of networks only DIS is measured. Writes
flow.json and flow.md beside this file, after each row anew; rows that are not asked for stay there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from experiments.bench.flow.networks import Remembered, add_options, chosen, referee
from experiments.bench.flow.tables import markdown
from experiments.bench.propagation import measures as measures
from experiments.bench.propagation.__main__ import HERE, RAW, choice, commit, quality, say, verdicts
from experiments.bench.propagation.cases import (
    INTERVAL,
    SOURCES,
    Case,
    Picture,
    case,
    eight_bit,
    picture,
)
from rerender import files
from rerender.contracts import FlowEstimator
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow._sample import sample
from rerender.flow.dis import Dis
from rerender.flow.truth import TruthFlow
from rerender.propagation.motion.chain import follow, link
from rerender.propagation.motion.pixels import vectors
from rerender.video import Clip, Segment

LOOKS = ("paint", "ident")
METHODS = ("warp", "patchmatch")
MOTIONS = ("slow", "fast", "crossing", "zoom")
SEEDS = 2
PRESETS: Mapping[str, FlowEstimator] = {
    "dis": Dis(),
    "dis ultrafast": Dis("ultrafast", "ultrafast"),
    "dis fast": Dis("fast", "fast"),
    "dis medium": Dis("medium", "medium", "medium"),
}
"""As it is set by default (from nothing medium, from a guess light, for a chain ultrafast), and
with one preset in the first and second place, or everywhere."""

Row = dict[str, Any]
Field = NDArray[np.float32]


def main() -> None:
    """Measure, write the results and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("clips", type=Path, help="folder that holds the three clips")
    add_options(parser)
    parser.add_argument("--flows", nargs="+", help="estimators to measure, if not all")
    parser.add_argument("--only", nargs="+", choices=PLACES, default=PLACES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    networks = chosen(options)
    path = HERE / "flow.json"
    results: Row = json.loads(path.read_text()) if path.is_file() else {"runs": []}
    run = {"date": date.today().isoformat(), "commit": commit(), "command": command(options)}
    results["runs"].append(run)
    for part, row in measured(options, networks):
        added(results, part, row)
        files.put_json(path, results)
        files.put(HERE / "flow.md", markdown(results, PLACES).encode())
    print(HERE / "flow.md")


PLACES = (*SOURCES, *MOTIONS)


def added(results: Row, part: str, row: Row) -> None:
    """A row in the place of the one that was measured before, if any."""

    def name(row: Row) -> list[str | None]:
        return [row.get(key) for key in ("clip", "case", "motion", "flow", "method")]

    rows = [other for other in results.get(part, []) if name(other) != name(row)]
    results[part] = [*rows, row]


def command(options: argparse.Namespace) -> str:
    """What was asked for, without the places of this machine."""
    words = ["python -m experiments.bench.flow CLIPS"]
    if options.raft:
        words += ["--raft", *(path.name for path in options.raft)]
    if options.gmflow:
        words += ["--gmflow REPO", options.gmflow[1].name]
    words += ["--flows", *options.flows] if options.flows else []
    words += ["--only", *options.only] if options.only is not PLACES else []
    return " ".join(words)


def measured(
    options: argparse.Namespace, networks: Mapping[str, FlowEstimator]
) -> Iterator[tuple[str, Row]]:
    """Rows and the part they belong to; the dearest estimators come last."""
    rafts = {name: network for name, network in networks.items() if name.startswith("raft")}
    places = [clip for clip in SOURCES if clip in options.only]
    motions = [motion for motion in MOTIONS if motion in options.only]
    judges = {clip: referees(case(clip, "ident", options.clips), rafts) for clip in places}
    for clip, look in product(places, LOOKS):
        warp = verdicts(judges[clip], case(clip, look, options.clips).truth)
        row = {"case": f"{clip} {look}", "flow": "-", "method": "truth", "warp": warp}
        yield "propagation", row
    yield from (("world", errors(motion, "truth", TruthFlow())) for motion in motions)
    for name, estimator in {**PRESETS, **networks}.items():
        if options.flows and name not in options.flows:
            continue
        whole = name in networks or name == "dis"
        for motion in motions if whole else ():
            say(f"{name}: {motion}")
            yield "world", errors(motion, name, estimator)
        for clip in places:
            say(f"{name}: {clip}")
            item, known = case(clip, "ident", options.clips), Remembered(estimator)
            yield "clips", {"clip": clip, "flow": name, **warped(item, known)}
            for look in LOOKS if whole else ():
                for row in propagated(case(clip, look, options.clips), known, judges[clip]):
                    yield "propagation", {"flow": name, **row}


def referees(item: Case, rafts: Mapping[str, FlowEstimator]) -> dict[str, measures.Referee]:
    """DIS at its best, and every RAFT."""
    found = {"dis": measures.Referee(item.source)}
    for name, raft in rafts.items():
        found[name] = measures.Referee(item.source, referee(raft))
    return found


def propagated(
    item: Case, flow: FlowEstimator, judges: Mapping[str, measures.Referee]
) -> Iterator[Row]:
    """What propagation makes of a flow."""
    for method in METHODS:
        frames = [picture(image) for image in choice(method).fill(item.segment(), flow)]
        warp = verdicts(judges, [item.keys[0], *frames, item.keys[1]])
        yield {"case": item.name, "method": method, **quality(frames, item), "warp": warp}


def warped(item: Case, flow: FlowEstimator) -> Row:
    """PSNR of the frame before, and of the first frame, warped to each frame."""
    source, segment = item.source, item.segment()
    frames = [segment.video.frame(index) for index in range(INTERVAL + 1)]

    def seen(offsets: Sequence[Field], sources: Sequence[Picture]) -> list[float]:
        moved = (
            eight_bit(sample(s.astype(np.float32), o))
            for s, o in zip(sources, offsets, strict=True)
        )
        return [measures.psnr(m, source[index]) for index, m in enumerate(moved, start=1)]

    before = measures.cpu_seconds()
    step = [vectors(flow.offset(frames[i], frames[i - 1])) for i in range(1, INTERVAL + 1)]
    spent = 1000 * (measures.cpu_seconds() - before) / len(step)
    far = [vectors(flow.offset(frames[i], frames[0])) for i in range(1, INTERVAL)]
    led = followed(segment, flow)
    keys = [source[0]] * (INTERVAL - 1)
    return {
        "previous": seen(step, source[:-1]),
        "key": seen(far, keys),
        "key_led": seen(led, keys),
        "ms": spent,
    }


def followed(segment: Segment, flow: FlowEstimator) -> list[Field]:
    """The flow from each frame to the left key frame as propagation makes it: led by a chain of
    neighbours, then refined."""
    assert segment.left is not None
    frames = range(1, INTERVAL)
    steps = follow(segment.video, segment.left.index, frames, link(segment, flow), flow)
    return [step.motion.offset for step in steps]


def errors(motion: str, name: str, estimator: FlowEstimator) -> Row:
    """True end-point errors in the demo world."""
    clips = Demo(tuple(range(HELD_OUT, HELD_OUT + SEEDS)), motion, INTERVAL + 1).clips()
    found = [on(clip, Remembered(estimator.open(clip))) for clip in clips]
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    return {"motion": motion, "flow": name, **means}


def on(clip: Clip, flow: FlowEstimator) -> dict[str, float]:
    """Mean end-point errors of one clip in pixels, over pixels that are seen in both frames."""
    frames = [clip.video.frame(index) for index in range(INTERVAL + 1)]
    segment = Segment(clip.video, 1, INTERVAL, frames[0], frames[-1])
    steps = [(i, i - 1, vectors(flow.offset(frames[i], frames[i - 1]))) for i in range(1, 11)]
    far = [(i, 0, vectors(flow.offset(frames[i], frames[0]))) for i in range(1, INTERVAL)]
    led = [(i, 0, offset) for i, offset in enumerate(followed(segment, flow), start=1)]
    kinds = {"previous": steps, "key": far, "key_led": led}
    return {k: float(np.mean([error(clip, *one) for one in found])) for k, found in kinds.items()}


def error(clip: Clip, target: int, source: int, offset: Field) -> float:
    """Mean end-point error of one flow in pixels."""
    assert clip.truth is not None
    true = clip.truth.flow(target, source)
    far = np.linalg.norm(offset - vectors(true.offset), axis=2)
    return float(far[true.occluded[0, 0].numpy() < 0.5].mean())


if __name__ == "__main__":
    main()
