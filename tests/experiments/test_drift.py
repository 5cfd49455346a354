"""The drift meter: slopes with known answers, from curves and from finished runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.score_files import Score
from experiments.drift import UNITS, drift_table, drifts, slope
from experiments.experiment import Experiment
from experiments.report import render
from experiments.report_data import Study
from rerender.run_folder import sealed
from tests.experiments.test_costs import FACTS, run


def row(clip: str, metric: str, curve: list[float | None], method: str = "ours") -> Score:
    return Score(clip, method, 0, metric, "1", 1.0, len(curve), curve=tuple(curve))


def test_the_slope_of_a_line_is_its_slope() -> None:
    assert slope(range(50), [3 + 0.02 * t for t in range(50)]) == pytest.approx(2)
    assert slope(range(50), [7.0] * 50) == pytest.approx(0)
    assert slope(range(19), range(19)) is None


def test_curves_and_runs_become_rows(tmp_path: Path) -> None:
    color = [None, *(0.01 * t for t in range(1, 101))]
    sharpness = [None, *(-0.03 * t for t in range(1, 101))]
    short = [None, 1.0, 2.0]
    scores = [
        row("a", "color_drift", color),
        row("a", "sharpness_drift", sharpness),
        row("b", "color_drift", short),
        row("a", "psnr", color),
    ]
    made = [[t, 1 + t / 50] for t in range(101)]
    old = {"clip": "old", "video": "old/video.mp4", "frames": 101, "seconds": {}}
    clip = {**old, "clip": "a", "video": "a/video.mp4", "vae_generations": made}
    run(tmp_path, "ours-0123abcd", sealed({**FACTS, "clips": [clip, old]}))
    found = {(each.clip, each.metric): each.value for each in drifts(scores, tmp_path)}
    assert found == {
        ("a", "color_drift"): pytest.approx(1),
        ("a", "sharpness_drift"): pytest.approx(-3),
        ("a", "vae_generations"): pytest.approx(2),
    }


def test_the_page_shows_the_meter_where_there_is_one() -> None:
    curve = [None, *(0.01 * t for t in range(1, 101))]
    rows = drifts([row(c, "color_drift", curve) for c in "ab"], Path("nowhere"))
    table = drift_table(rows, Experiment())
    (cells,) = table.lines.values()
    assert [column.name for column in table.columns] == ["color_drift"] and "color_drift" in UNITS
    assert cells[0].mean == pytest.approx(1) and cells[0].clips == 2
    assert "Drift per 100 frames" in render(Study([], drifts=rows), "x")
    assert "Drift per 100 frames" not in render(Study([]), "x")
