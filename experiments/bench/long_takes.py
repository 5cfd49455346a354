"""Slopes of long takes with the first anchor and with re-anchoring, side by side.

``python -m rerender.run +exp=long_takes`` makes the takes,
``python -m experiments.bench.long_takes results/long_takes`` writes the table to standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eval import score_files, stats
from eval.score_files import Score
from experiments.drift import drifts, slope
from rerender.errors import InputError
from rerender.exits import Parser, command
from rerender.run_folder import SCORES

FIXED, RENEWED = "reanchor_0", "reanchor_0.3"
NAMES = {
    "psnr": "PSNR to the truth, dB",
    "color_drift": "colour, ΔE",
    "sharpness_drift": "sharpness, dB",
    "vae_generations": "VAE generations",
}
Slopes = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metric -> method -> clip -> change per 100 frames."""


def slopes(scores: Sequence[Score], root: Path) -> Slopes:
    """The slopes of each take under each of `NAMES`."""
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in NAMES}
    for row in drifts(scores, root):
        if row.value is not None:
            found[row.metric].setdefault(row.method, {})[row.clip] = row.value
    for row in scores:
        known = [(t, value) for t, value in enumerate(row.curve) if value is not None]
        if row.metric == "psnr" and known:
            value = slope(*zip(*known, strict=True))
            if value is not None:
                found["psnr"].setdefault(row.method, {})[row.clip] = value
    return found


def table(found: Slopes) -> str:
    """The mean slopes of both, their ratio, and the p of the paired difference of their sizes."""
    lines = [
        "| per 100 frames | first anchor | re-anchored | ratio of sizes | steeper with first | p |",
        "|---|---|---|---|---|---|",
    ]
    for metric, name in NAMES.items():
        fixed, renewed = (found[metric].get(method, {}) for method in (FIXED, RENEWED))
        clips = sorted(fixed.keys() & renewed.keys())
        if not clips:
            continue
        one, other = (np.array([values[c] for c in clips]) for values in (fixed, renewed))
        less = np.abs(one) - np.abs(other)
        ratio = np.abs(other).mean() / max(np.abs(one).mean(), 1e-12)
        p = stats.sign_flip(less)
        lines.append(
            f"| {name} | {one.mean():.3f} | {other.mean():.3f} | {ratio:.2f} "
            f"| {int((less > 0).sum())} of {len(clips)} | {p:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.bench.long_takes", description=__doc__)
    parser.add_argument("results", type=Path, help="results of +exp=long_takes")
    root = parser.parse_args(arguments).results
    scores = score_files.read(root / SCORES)
    if not scores:
        raise InputError(
            root / SCORES, "holds no scores", "run: python -m rerender.run +exp=long_takes"
        )
    sys.stdout.write(table(slopes(scores, root)))


if __name__ == "__main__":
    sys.exit(main())
