"""One clip over several processes: how much sooner it is done, to the same bytes.

    OMP_NUM_THREADS=1 python -m experiments.bench.translation.devices --out FILE.md

Each row is one command in a new folder, ``devices`` apart. Seconds on the clock and of the
processor are those of the whole command with all its processes; ``method`` is the time from the
first word of translation to the last frame, so without loading libraries and models for the first
part of each process (which is said by the row of one process elsewhere) and without metrics.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from rerender import files

CASES = {
    "three shots": ["keyframes.cuts=[{third},{twothirds}]"],
    "one shot": [],
}
DEVICES = ("[]", "[cpu]", "[cpu,cpu]")


def run(case: str, devices: str, frames: int, every: int) -> dict[str, float | str]:
    """One command: seconds on the clock, of the processor, of translation and propagation."""
    keys = list(range(every, frames, every))
    cuts = [part.format(third=frames // 3, twothirds=2 * frames // 3) for part in CASES[case]]
    said = [
        f"data.frames={frames}",
        "keyframes=manual",
        f"keyframes.indices={json.dumps(keys).replace(' ', '')}",
        *cuts,
        "metrics=[integrity]",
        "tracker=none",
        "store=null",
        "out=out",
        f"devices={devices}",
    ]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        root = Path(__file__).resolve().parents[3]
        subprocess.run(
            [sys.executable, "-m", "rerender.run", *said],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(root)},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wall = time.monotonic() - begun
        facts = json.loads((Path(place) / "out" / "metrics.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((Path(place) / "out" / "video.mp4").read_bytes()).hexdigest()[:12]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    method = sum(facts["seconds"].get(stage, 0.0) for stage in ("translate", "propagate", "encode"))
    return {"wall": wall, "processor": processor, "method": method, "sha256": digest}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all rows and write the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.translation.devices")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args(arguments)
    lines = [
        "# One clip over several processes",
        "",
        f"{date.today()}, demo clip of {options.frames} frames of 128x128, a key frame every "
        f"{options.every}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, load "
        f"{os.getloadavg()[0]:.1f} before. `python -m experiments.bench.translation.devices`",
        "",
        "| clip | devices | seconds, whole command | of them method | processor seconds | video |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for devices in DEVICES:
            row = run(case, devices, options.frames, options.every)
            lines.append(
                f"| {case} | {devices} | {row['wall']:.1f} | {row['method']:.1f} | "
                f"{row['processor']:.1f} | {row['sha256']} |"
            )
            sys.stderr.write(f"{lines[-1]}\n")
    text = "\n".join(lines) + "\n"
    if options.out:
        files.put(options.out, text.encode())
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
