"""What a device does with this project, and how fast: one command, no downloads.

    python -m experiments.bench.gpu OUT [--parts PART ...] [--device cuda] [--seconds 530] [--toy]

Parts, each of which leaves OUT/PART.json, written after every row; one that is complete there for
the same card, commit and size is not done again:

- ``keys``: seconds per key frame with all four constraints, 20 steps at strength 0.75, at 512x512
  and 512x896 by `sampling.batch_size`, with evaluations replayed as CUDA graphs and called.
- ``evaluation``: milliseconds of one evaluation of UNet and ControlNet, and of the autoencoder.
- ``outside``: the share of a key frame's time that is not the networks'.
- ``clip``: frames per second of 120 frames from end to end at intervals of 4 and 10, and with the
  few-step preset.
- ``propagation``: milliseconds a frame between key frames, by stage and size.
- ``memory``: whether device memory grows over 200 key frames.
- ``tests``: the project's tests that are marked ``gpu``.
- ``methods``: every method of conf/method against the processor's result.
- ``sdxl``: seconds per key frame of Stable Diffusion XL at 1024x1024.
- ``profile``: kernels, operators of the host, and how often it waits, per key frame.

Models are Stable Diffusion 1.5 and XL of full size in float16 whose random weights are drawn on the
device: their pictures mean nothing, their cost is that of trained ones. OUT/gpu.json and OUT/gpu.md
hold all that OUT has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from experiments.bench.gpu import correctness, translating
from experiments.bench.gpu.profile import profile
from experiments.bench.gpu.setting import BenchSetting
from experiments.bench.gpu.tables import page
from experiments.bench.propagation import device as filling

Row = dict[str, Any]
SIZES = ((512, 512), (1080, 1920), (2160, 3840))


def propagation(setting: BenchSetting) -> Iterator[Row]:
    """Milliseconds a frame between key frames, by stage."""
    for height, width in ((48, 64),) if setting.toy else SIZES:
        yield filling.measured(height, width, setting.device, compared=height <= 512)


PARTS: dict[str, Callable[[BenchSetting], Iterator[Row]]] = {
    "keys": translating.keys,
    "evaluation": translating.evaluation,
    "outside": translating.outside,
    "clip": translating.whole,
    "propagation": propagation,
    "memory": translating.memory,
    "tests": correctness.tests,
    "methods": correctness.methods,
    "sdxl": translating.larger,
    "profile": profile,
}


def main(arguments: Sequence[str]) -> None:
    """Do the parts that are asked for and not done."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=530, help="no row begins after these")
    parser.add_argument("--toy", action="store_true", help="everything tiny, to see that it runs")
    asked = parser.parse_args(arguments)
    if asked.device == "cpu" and not asked.toy:
        parser.error("there is no CUDA device here; --toy shows on the CPU that everything runs")
    end = time.monotonic() + asked.seconds
    device = torch.device(asked.device)
    setting = BenchSetting.small(device) if asked.toy else BenchSetting(device)
    facts = about(device, asked.toy)
    command = " ".join(["python -m experiments.bench.gpu", *arguments])
    print(json.dumps(facts), flush=True)
    for part in asked.parts:
        file = asked.out / f"{part}.json"
        if not finished(file, facts):
            measure(part, setting, {**facts, "command": command, "date": now()}, file, end)
    found = {part: read(asked.out / f"{part}.json") for part in PARTS}
    known = {part: each for part, each in found.items() if each}
    save(asked.out / "gpu.json", known)
    (asked.out / "gpu.md").write_text(page(known))


def measure(part: str, setting: BenchSetting, facts: Row, file: Path, end: float) -> None:
    """One part; every row is written as soon as it is there, also what failed."""
    rows: list[Row] = []
    state = {**facts, "complete": False, "rows": rows}
    try:
        if time.monotonic() < end:
            for row in PARTS[part](setting):
                rows.append(row)
                print(part, json.dumps(row), flush=True)
                save(file, state)
                if time.monotonic() > end:
                    break
            else:
                state["complete"] = True
    except Exception as error:  # the other parts are worth having
        traceback.print_exc()
        state["error"] = f"{type(error).__name__}: {error}"[:500]
    if not state["complete"] and "error" not in state:
        state["error"] = "no time left"
    save(file, state)


def save(file: Path, found: Row) -> None:
    """Write results."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")


def about(device: torch.device, toy: bool) -> Row:
    """What figures are of."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "card": filling.named(device),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "commit": commit,
        "toy": toy,
    }


def now() -> str:
    """The time of day."""
    return datetime.now(UTC).isoformat(timespec="minutes")


def read(file: Path) -> Row | None:
    """A part's results; None where there are none."""
    found: Row | None = json.loads(file.read_text()) if file.is_file() else None
    return found


def finished(file: Path, facts: Row) -> bool:
    """Whether a part is complete for the same card and commit."""
    found = read(file) or {}
    return bool(found.get("complete")) and all(found.get(key) == facts[key] for key in facts)


if __name__ == "__main__":
    main(sys.argv[1:])
