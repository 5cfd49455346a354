"""How good flow is, by estimator, and what propagation makes of it.

    python -m experiments.bench.flow CLIPS [--raft FILE ...] [--gmflow REPO FILE]

CLIPS is a folder that holds the three clips. Without files of networks only DIS is measured. Writes
flow.json and flow.md beside this file, after each clip anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from experiments.bench import propagation_measures as measures
from experiments.bench.flow_networks import Remembered, add_options, chosen, referee
from experiments.bench.propagation import HERE, RAW, choice, commit, quality, say
from experiments.bench.propagation_cases import INTERVAL, SOURCES, Picture, case, eight_bit, picture
from rerender import store
from rerender.contracts import FlowEstimator
from rerender.data.demo import Demo
from rerender.demo.world import HELD_OUT
from rerender.flow.dis import Dis
from rerender.flow.sample import sample
from rerender.flow.truth import Truth
from rerender.propagation.chain import follow, link
from rerender.propagation.pixels import vectors
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
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    networks = chosen(options)
    results: Row = {"date": date.today().isoformat(), "commit": commit()}
    results["command"] = command(options)
    results |= {part: [] for part in ("clips", "propagation", "world")}
    for row in world(networks) if "world" in options.parts else ():
        results["world"].append(row)
        written(results)
    for clip in SOURCES if "clips" in options.parts else ():
        for part, row in measured(clip, options.clips, networks):
            results[part].append(row)
            written(results)
    print(HERE / "flow.md")


PARTS = ("world", "clips")


def command(options: argparse.Namespace) -> str:
    """What was asked for, without the places of this machine."""
    words = ["python -m experiments.bench.flow CLIPS"]
    if options.raft:
        words += ["--raft", *(path.name for path in options.raft)]
    if options.gmflow:
        words += ["--gmflow REPO", options.gmflow[1].name]
    return " ".join(words)


def written(results: Row) -> None:
    """What is measured so far."""
    store.put_json(HERE / "flow.json", results)
    store.put(HERE / "flow.md", markdown(results).encode())


def measured(
    clip: str, clips: Path, networks: Mapping[str, FlowEstimator]
) -> Iterator[tuple[str, Row]]:
    """Every estimator on the source of a clip, then what propagation makes of the dear ones."""
    source = case(clip, "ident", clips)
    judges = {"dis": measures.Referee(source.source)}
    for name, network in networks.items():
        if name.startswith("raft"):
            estimate = referee(network)
            judges[name] = measures.Referee(source.source, estimate)
    for name, estimator in {**PRESETS, **networks}.items():
        say(f"{clip}: {name}")
        known = Remembered(estimator)
        yield (
            "clips",
            {"clip": clip, "flow": name, **warped(source.source, source.segment(), known)},
        )
        if name in networks or name == "dis":
            for look in LOOKS:
                item = case(clip, look, clips)
                for method in METHODS:
                    frames = [picture(i) for i in choice(method).fill(item.segment(), known)]
                    whole = [item.keys[0], *frames, item.keys[1]]
                    warp = {name: judge.warp_error(whole) for name, judge in judges.items()}
                    row = {"case": f"{clip} {look}", "flow": name, "method": method}
                    yield "propagation", {**row, **quality(frames, item), "warp": warp}
    for look in LOOKS:
        truth = case(clip, look, clips).truth
        errors = {name: judge.warp_error(truth) for name, judge in judges.items()}
        yield (
            "propagation",
            {"case": f"{clip} {look}", "flow": "-", "method": "truth", "warp": errors},
        )


def warped(source: Sequence[Picture], segment: Segment, flow: FlowEstimator) -> Row:
    """PSNR of the frame before, and of the first frame, warped to each frame."""
    video = segment.video
    frames = [video.frame(index) for index in range(INTERVAL + 1)]

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


def world(networks: Mapping[str, FlowEstimator]) -> Iterator[Row]:
    """True end-point errors in the demo world."""
    estimators: dict[str, FlowEstimator] = {"truth": Truth(), "dis": Dis(), **networks}
    for motion in MOTIONS:
        clips = Demo(tuple(range(HELD_OUT, HELD_OUT + SEEDS)), motion, INTERVAL + 1).clips()
        for name, estimator in estimators.items():
            say(f"{motion}: {name}")
            found = [errors(clip, Remembered(estimator.open(clip))) for clip in clips]
            means = {key: float(np.mean([f[key] for f in found])) for key in found[0]}
            yield {"motion": motion, "flow": name, **means}


def errors(clip: Clip, flow: FlowEstimator) -> dict[str, float]:
    """Mean end-point errors in pixels, over pixels that are seen in both frames."""
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


def markdown(results: Row) -> str:
    """The results as tables."""
    judges = list(results["propagation"][0]["warp"]) if results["propagation"] else []
    lines = ["# Flow", "", f"{results['date']}, commit {results['commit']}:"]
    lines += [f"`{results['command']}`", "", "## PSNR of warped source frames", ""]
    lines += [EXPLAINED, "", "| clip | flow | previous | key | key, led and refined | ms |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in results["clips"]:
        values = " | ".join(f"{np.mean(row[k]):.2f}" for k in ("previous", "key", "key_led"))
        lines.append(f"| {row['clip']} | {row['flow']} | {values} | {row['ms']:.1f} |")
    columns = ["case", "flow", "method", "PSNR", "SSIM", "msge", *(f"warp by {j}" for j in judges)]
    lines += ["", "## Propagation", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in results["propagation"]:
        cells = [row["case"], row["flow"], row["method"]]
        for key, digits in (("psnr", 2), ("ssim", 4), ("msge", 3)):
            cells.append(f"{row[key]:.{digits}f}" if key in row else "-")
        cells += [f"{row['warp'][judge]:.3f}" for judge in judges]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## True end-point error in the demo world, in pixels", ""]
    lines += ["| motion | flow | previous | key | key, led and refined |", "|---|---|---|---|---|"]
    for row in results["world"]:
        values = " | ".join(f"{row[k]:.3f}" for k in ("previous", "key", "key_led"))
        lines.append(f"| {row['motion']} | {row['flow']} | {values} |")
    return "\n".join([*lines, ""])


EXPLAINED = """Mean over the frames of one interval, in dB: the frame before warped to each frame;
the first key frame warped by a direct look from nothing; the same as propagation has it, from a
guess by a chain of neighbours and then refined. Outside the image its nearest pixel is taken. *ms*:
processor time of one direction."""


if __name__ == "__main__":
    main()
