"""The tables of the experiments in print: names of rows and columns, and their room."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from eval.references import SOURCE, TRUTH
from eval.score_files import Score
from experiments import metric_names, tables
from experiments.experiment import Experiment
from experiments.formats import Table
from experiments.latex_table import to_latex
from rerender.config.compose import Sweep, preflight
from rerender.config.paths import choices_of
from tests.experiments.typesetting import needs_tex, typeset

WITHOUT_TABLE = ("bench", "smoke")
EXPERIMENTS = [name for name in choices_of("exp") if name not in WITHOUT_TABLE]


@cache
def swept(name: str) -> Sweep:
    return preflight([f"+exp={name}"])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_row_and_column_has_a_printed_name(name: str) -> None:
    """A paper prints no names of code: of rows the experiment says what they are called."""
    sweep = swept(name)
    assert sweep.table is not None
    rows = {str(job["name"]) for job in sweep.jobs}
    assert rows <= sweep.table.rows.keys()
    assert sweep.table.reference in rows
    printed = [sweep.table.rows[row] for row in rows]
    assert len({*printed}) == len(rows) and not [text for text in printed if "_" in text]
    heads = [metric_names.metric(metric) for metric in sweep.table.columns]
    assert len({*heads}) == len(heads) and not [head for head in heads if "_" in head]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("warp_error", "warp error"),
        ("warp_error_long_last5", "warp error (long, last 5)"),
        ("lpips_demo", "LPIPS (demo)"),
        ("clip_score", "CLIP score"),
        ("lpips_demo_neighbours", "LPIPS neighbours (demo)"),
        ("color_drift", "colour drift"),
        ("tem_con_demo", "Tem-Con (demo)"),
        ("Pixel-MSE", "Pixel-MSE"),
        ("User overall %", "User overall %"),
        ("demo", "demo"),
    ],
)
def test_metrics_are_spelled_as_the_field_does(name: str, printed: str) -> None:
    assert metric_names.metric(name) == printed


@pytest.mark.parametrize(
    ("experiment", "row", "printed"),
    [
        ("real_clips", "rerender_k1", "Rerender, K=1"),
        ("table2_strong", "tokenflow_pnp_k40", "TokenFlow, PnP, K=40"),
        ("table3", "interval_30", "K = 30"),
        ("real_clips", "unheard_of_k1", "unheard_of_k1"),  # the experiment has no such method
        ("ablation_start", "start_60", "start_60"),  # "strength 0.5" holds no 50
        ("real_clips", "source", "source"),
    ],
)
def test_rows_at_other_numbers_are_named_as_theirs(experiment: str, row: str, printed: str) -> None:
    assert Experiment(swept(experiment).table).printed(row) == printed


def synthetic(name: str, clips: int) -> list[Table]:
    """The table of an experiment with values of usual size in each of its rows and columns."""
    sweep = swept(name)
    assert sweep.table is not None
    random, made = np.random.default_rng(0), []
    rows = [SOURCE, TRUTH, *dict.fromkeys(str(job["name"]) for job in sweep.jobs)]
    levels = {"psnr": (21.0, "dB"), "color_drift": (2.5, "dE"), "sharpness_drift": (-1.2, "dB")}
    for metric in sweep.table.columns:
        small = 6e-5 if "warp_error" in metric or metric == "flicker" else 0.8
        level, unit = levels.get(metric, (small, "1"))
        for row in rows:
            shift = random.normal()
            for clip in range(clips):
                value = level * float(np.exp(0.2 * shift + 0.1 * random.normal()))
                args = f"c{clip}", row, 0, metric, "1", value, 9, "", "lower", unit
                made.append(Score(*args))
    places = {row: place for place, row in enumerate(rows)}
    about = Experiment(sweep.table, places=places)
    return [tables.table(made, about), *tables.published(about)]


@pytest.mark.slow
@needs_tex
@pytest.mark.parametrize("clips", [2, 16])
def test_every_table_fits_its_column_and_its_page(clips: int, tmp_path: Path) -> None:
    """All experiments in one document: no table exceeds its page, and no label is set twice."""
    every = [table for name in EXPERIMENTS for table in synthetic(name, clips)]
    unique = list({table.label: table for table in every}.values())
    said = typeset((rf"{to_latex([table])}\clearpage" for table in unique), tmp_path)
    assert "Float too large" not in said, said
    assert "multiply defined" not in said
