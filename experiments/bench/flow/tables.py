"""The results of the bench of flow as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def markdown(results: Mapping[str, Any], places: Sequence[str]) -> str:
    """The results as tables, rows in the order of the places that they were measured at."""
    rows = results.get("propagation", [])
    judges = list(dict.fromkeys(judge for row in rows for judge in row["warp"]))
    lines = ["# Flow", ""]
    for run in results["runs"]:
        lines += [f"- {run['date']}, commit {run['commit']}: `{run['command']}`"]
    lines += ["", "## PSNR of warped source frames", ""]
    lines += [EXPLAINED, "", "| clip | flow | previous | key | key, led and refined | ms |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in sorted(results.get("clips", []), key=lambda row: places.index(row["clip"])):
        values = " | ".join(f"{np.mean(row[k]):.2f}" for k in ("previous", "key", "key_led"))
        lines.append(f"| {row['clip']} | {row['flow']} | {values} | {row['ms']:.1f} |")
    columns = ["case", "flow", "method", "PSNR", "SSIM", "msge", *(f"warp by {j}" for j in judges)]
    lines += ["", "## Propagation", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in sorted(rows, key=lambda row: str(row["case"])):
        cells = [row["case"], row["flow"], row["method"]]
        for key, digits in (("psnr", 2), ("ssim", 4), ("msge", 3)):
            cells.append(f"{row[key]:.{digits}f}" if key in row else "-")
        warp = row["warp"]
        cells += [f"{warp[judge]:.3f}" if judge in warp else "-" for judge in judges]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## True end-point error in the demo world, in pixels", ""]
    lines += ["| motion | flow | previous | key | key, led and refined |", "|---|---|---|---|---|"]
    for row in sorted(results.get("world", []), key=lambda row: places.index(row["motion"])):
        values = " | ".join(f"{row[k]:.3f}" for k in ("previous", "key", "key_led"))
        lines.append(f"| {row['motion']} | {row['flow']} | {values} |")
    return "\n".join([*lines, ""])


EXPLAINED = """Mean over the frames of one interval, in dB: the frame before warped to each frame;
the first key frame warped by a direct look from nothing; the same as propagation has it, from a
guess by a chain of neighbours and then refined. Outside the image its nearest pixel is taken. *ms*:
processor time of one direction."""
