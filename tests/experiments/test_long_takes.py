"""The table of long takes: mean slopes, their ratio, and the exact p of six clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.score_files import Score
from experiments.bench.long_takes import FIXED, RENEWED, slopes, table


def take(method: str, clip: int, metric: str, slope: float) -> Score:
    curve = tuple(20 + slope * t / 100 for t in range(401))
    return Score(f"c{clip}", method, 0, metric, "1", 1.0, 401, curve=curve)


def test_six_takes_that_agree() -> None:
    rows = [
        take(method, clip, metric, sign * steep * (1 + clip / 10))
        for clip in range(6)
        for method, steep in ((FIXED, 1.0), (RENEWED, 0.25))
        for metric, sign in (("psnr", -1), ("color_drift", 1))
    ]
    found = slopes(rows, Path("nowhere"))
    assert found["psnr"][FIXED]["c0"] == pytest.approx(-1)
    lines = table(found).splitlines()
    assert lines[2] == "| PSNR to the truth, dB | -1.250 | -0.312 | 0.25 | 6 of 6 | 0.031 |"
    assert lines[3] == "| colour, ΔE | 1.250 | 0.312 | 0.25 | 6 of 6 | 0.031 |"
    assert len(lines) == 4
