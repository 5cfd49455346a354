"""The results of the propagation bench as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.bench.propagation.cases import INTERVAL

COLUMNS = (("psnr", 2), ("ssim", 4), ("msge", 3), ("warp", 3), ("warp_raft", 3), ("ms", 1))
"""Figures of a row and their decimals."""


def markdown(results: Mapping[str, Any]) -> str:
    """The results as tables."""
    speed = results["dis_medium_ms"]
    lines = [
        "# Propagation: quality and cost on real clips",
        "",
        f"{results['date']}, commit {results['commit']}: `{results['command']}`",
        "",
        "Processor time of all threads, one thread at a time. DIS medium on this machine: "
        f"{speed:.1f} ms; *scaled* is ms x 13.0 / {speed:.1f}, the time on a machine where it "
        "takes 13.0 ms. The 3x3 mix of colours of the look `paint` was fitted to a score of "
        "`hold`.",
        "",
        "*warp* is measured along the flow of DIS, *warp RAFT* along that of RAFT, which no method "
        "uses: not worse than the truth's is all that is asked, it is no score.",
        "",
        "## Agreeing key frames (frames 1-9 of 11)",
        "",
        "| case | method | PSNR | SSIM | msge | warp | warp RAFT | ms/frame | scaled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["cases"]:
        cells = [row["case"], row["method"]]
        for key, digits in COLUMNS:
            cells.append(f"{row[key]:.{digits}f}" if key in row else "-")
        cells.append(f"{row['ms'] * 13.0 / speed:.0f}" if "ms" in row else "-")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Key frames that disagree, patchmatch with every blend", ""]
    columns = "LP-PSNR | texture | warp | warp RAFT | step | ms/frame | PSNR agreeing"
    lines += [f"| clip | blend | {columns} |", "|---|---|---|---|---|---|---|---|---|"]
    for row in results["disagreeing"]:
        raft = f"{row['warp_raft']:.2f}" if "warp_raft" in row else "-"
        lines.append(
            f"| {row['clip']} | {row['blend']} | {row['lp_psnr']:.2f} | {row['texture']:.3f} | "
            f"{row['warp']:.2f} | {raft} | {row['step']:.3f} | {row['ms']:.1f} | "
            f"{row['psnr_agreeing']:.2f} |"
        )
    lines += ["", "## Forward only: PSNR by distance from the key frame (paint)", ""]
    lines += [f"| clip | method | {' | '.join(map(str, range(1, INTERVAL)))} |"]
    lines += [f"|{'---|' * (INTERVAL + 1)}"]
    for row in results["by_distance"]:
        values = " | ".join(f"{value:.2f}" for value in row["psnr"])
        lines.append(f"| {row['clip']} | {row['method']} | {values} |")
    return "\n".join([*lines, ""])
