"""What every propagation costs and how good it is.

    python -m experiments.bench.propagation CLIPS [--methods NAME ...] [--sheets DIR] [--raft FILE]

CLIPS is a folder that holds the three clips. With the weights of a RAFT, warp errors are measured
along its flow as well. Writes propagation.json and propagation.md beside this file. One thread,
processor time, medians; the machine's own speed is measured with it, since every figure in ms is
only worth something next to that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from experiments.bench.flow import networks as networks
from experiments.bench.propagation import measures as measures
from experiments.bench.propagation.cases import INTERVAL, Case, Picture, case, disagreeing, picture
from experiments.bench.propagation.tables import markdown
from rerender import files
from rerender.config.build import build
from rerender.config.paths import CONF
from rerender.contracts import Propagation
from rerender.flow.dis import Dis
from rerender.propagation.blending.blend import Blend, Linear, Soft, TwoBand
from rerender.propagation.blending.contrast import Contrast
from rerender.propagation.blending.min_error import MinError
from rerender.propagation.blending.poisson import Poisson
from rerender.propagation.patchmatch import PatchMatch

HERE = Path(__file__).parent
CASES = (
    "kool paint",
    "antoni paint",
    "kool@3 paint",
    "cotton paint",
    "kool sketch",
    "kool ident",
    "antoni ident",
    "cotton ident",
)
METHODS = ("hold", "nearest", "warp", "patchmatch")
BLENDS: Mapping[str, Blend] = {
    "linear": Linear(),
    "soft": Soft(tolerance=4.0),
    "min-error": MinError(),
    "contrast": Contrast(),
    "contrast + Poisson": Poisson(),
    "two-band": TwoBand(tolerance=4.0),
}
SLOW = "published"
"""Measured on the first case only, and once."""

ROUNDS = 5
Row = dict[str, Any]


def main() -> None:
    """Run what was asked for, write the results and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("clips", type=Path, help="folder that holds the three clips")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="names of conf/propagation")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets (png)")
    parser.add_argument("--raft", type=Path, help="weights of a second referee")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    command = f"python -m experiments.bench.propagation CLIPS --methods {' '.join(options.methods)}"
    command += f" --raft {options.raft.name}" if options.raft else ""
    results = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "command": command,
        "dis_medium_ms": dis_medium_ms(options.clips),
        "cases": list(agreeing(options.clips, options.methods, options.sheets, options.raft)),
        "disagreeing": list(disagreements(options.clips, options.raft)),
        "by_distance": list(distances(options.clips, options.methods)),
    }
    files.put(HERE / "propagation.json", json.dumps(results, indent=1).encode())
    files.put(HERE / "propagation.md", markdown(results).encode())
    print(f"{HERE / 'propagation.json'}\n{HERE / 'propagation.md'}")


RAW = argparse.RawDescriptionHelpFormatter


def choice(name: str) -> Propagation:
    """A method as its yaml has it."""
    part = build(yaml.safe_load((CONF / "propagation" / f"{name}.yaml").read_text()), name)
    assert isinstance(part, Propagation)
    return part


def agreeing(
    clips: Path, methods: Sequence[str], sheets: Path | None, raft: Path | None
) -> Iterator[Row]:
    """Every method on every case."""
    for name in CASES:
        clip, look = name.split()
        item = case(clip, look, clips)
        referees = referees_of(clip, clips, raft)
        yield {"case": name, "method": "truth", **verdicts(referees, item.truth)}
        for method in [*methods, *([SLOW] if name == CASES[0] else [])]:
            say(f"{name}: {method}")
            frames, spent = filled(choice(method), item, 0 if method == SLOW else ROUNDS)
            whole = [item.keys[0], *frames, item.keys[1]]
            row = {"case": name, "method": method, **quality(frames, item), "ms": spent}
            yield {**row, **verdicts(referees, whole)}
            if sheets is not None:
                sheet(sheets / f"{name.replace(' ', '-')}-{method}.png", item, frames)


@cache
def referees_of(clip: str, clips: Path, raft: Path | None) -> Mapping[str, measures.Referee]:
    """Those who measure the warp error on a clip, by the name of the figure."""
    source = case(clip, "ident", clips).source
    found = {"warp": measures.Referee(source)}
    if raft is not None:
        found["warp_raft"] = measures.Referee(source, networks.referee(networks.raft(raft)))
    return found


def verdicts(referees: Mapping[str, measures.Referee], frames: Sequence[Picture]) -> Row:
    """The warp error of a whole interval, by everyone who measures it."""
    return {name: referee.warp_error(frames) for name, referee in referees.items()}


def quality(frames: Sequence[Picture], item: Case) -> Row:
    """Means over the frames between the key frames."""
    pairs = list(zip(frames, item.truth[1:-1], strict=True))
    return {
        "psnr": float(np.mean([measures.psnr(*pair) for pair in pairs])),
        "ssim": float(np.mean([measures.ssim(*pair) for pair in pairs])),
        "msge": float(np.mean([measures.gradient_error(*pair) for pair in pairs])),
    }


def filled(part: Propagation, item: Case, rounds: int) -> tuple[list[Picture], float]:
    """The frames between the key frames, and what one costs in ms of processor time: the median of
    some rounds after a first one, or that of the only run if there are none."""
    segment, flow = item.segment(), Dis()
    before = measures.cpu_seconds()
    frames = [picture(image) for image in part.fill(segment, flow)]
    spent = 1000 * (measures.cpu_seconds() - before) / len(frames)
    if rounds:
        spent = measures.cpu_ms(lambda: list(part.fill(segment, flow)), rounds, len(frames))
    return frames, spent


def disagreements(clips: Path, raft: Path | None) -> Iterator[Row]:
    """Every blend of the same two propagations, on key frames that disagree."""
    for clip in ("kool", "antoni", "cotton"):
        item = disagreeing(clip, clips)
        referees = referees_of(clip, clips, raft)
        for name, blend in BLENDS.items():
            say(f"{clip}, key frames disagree: {name}")
            frames, spent = filled(PatchMatch(blend=blend), item, rounds=3)
            agree, _ = filled(PatchMatch(blend=blend), case(clip, "paint", clips), rounds=1)
            yield {
                "clip": clip,
                "blend": name,
                "lp_psnr": measures.low_pass_psnr(frames, item.truth[1:-1]),
                "texture": measures.texture(frames) / measures.texture(item.keys),
                **verdicts(referees, [item.keys[0], *frames, item.keys[1]]),
                "step": measures.colour_step([item.keys[0], *frames, item.keys[1]], item.truth),
                "ms": spent,
                "psnr_agreeing": quality(agree, case(clip, "paint", clips))["psnr"],
            }


def distances(clips: Path, methods: Sequence[str]) -> Iterator[Row]:
    """PSNR of each frame filled from the left key frame alone, by its distance from it."""
    for clip in ("kool", "antoni"):
        item = case(clip, "paint", clips)
        for method in methods:
            images = choice(method).fill(item.segment(right=False), Dis())
            pairs = zip(images, item.truth[1:-1], strict=True)
            psnr = [measures.psnr(picture(image), truth) for image, truth in pairs]
            yield {"clip": clip, "method": method, "psnr": psnr}


def dis_medium_ms(clips: Path) -> float:
    """What OpenCV's DIS needs here and now for a pair of the case kool: 13.0 ms on the machine of
    the report, so that its budgets can be compared."""
    source = case("kool", "ident", clips).source
    first, second = (cv2.cvtColor(source[index], cv2.COLOR_BGR2GRAY) for index in (5, 0))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return measures.cpu_ms(lambda: dis.calc(first, second, None), 21, 1)


def sheet(path: Path, item: Case, frames: Sequence[Picture]) -> None:
    """Source, truth and result of every second frame, one below the other."""
    shown = range(0, INTERVAL - 1, 2)
    rows = (item.source[1:-1], item.truth[1:-1], frames)
    table = np.vstack([np.hstack([row[index] for index in shown]) for row in rows])
    _, data = cv2.imencode(".png", table)
    files.put(path, data.tobytes())


def commit() -> str:
    """The commit that is measured, marked where the files that matter differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    rooms = ("flow", "propagation", "propagate.py")
    changed = git("status", "--porcelain", "--", *(f":/rerender/{room}" for room in rooms))
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def say(text: str) -> None:
    """Where the run is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
