"""The drift meter: how fast colour, sharpness and VAE generations change along a take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval import stats
from eval.score_files import Score
from experiments.costs import runs
from experiments.experiment import Experiment, is_floor
from experiments.formats import Cell, Column, Table, rounding
from rerender.errors import InputError
from rerender.run_folder import read_facts

LEAST = 20  # values of a curve, below which a slope says nothing
UNITS = {"color_drift": "ΔE", "sharpness_drift": "dB", "vae_generations": ""}
NOTES = (
    "Change per 100 frames: the slope of a least-squares line through the curve of each clip, mean "
    "over clips with its 95 % interval; clips with fewer than 20 values are left out. Colour and "
    "sharpness are relative to the first frame and beyond the source's own change; below 0 dB "
    "detail wears off.",
    "VAE generations: how often what is seen in a key frame may have gone through the autoencoder; "
    "0 where no constraint encodes earlier results. Not tested.",
)


def slope(frames: Sequence[float], values: Sequence[float]) -> float | None:
    """Change per 100 frames of the least-squares line; None of fewer than `LEAST` values.

    Args:
        frames: frame numbers.
        values: of those frames.
    """
    x, y = np.asarray(frames, np.float64), np.asarray(values, np.float64)
    if len(x) < LEAST:
        return None
    centred = x - x.mean()
    return float(100 * (centred @ y) / (centred @ centred))


def drifts(scores: Sequence[Score], root: Path) -> list[Score]:
    """A row for each clip of each result under each of `UNITS` that is known of it.

    Args:
        scores: rows of a score file, with their curves.
        root: the folder of results; runs of ours say the VAE generations of their key frames.
    """
    found = []
    for row in scores:
        if row.metric in ("color_drift", "sharpness_drift"):
            known = [(t, value) for t, value in enumerate(row.curve) if value is not None]
            found.append(replace(row, value=slope(*zip(*known, strict=True)) if known else None))
    return [row for row in [*found, *_generations(root)] if row.value is not None]


def _generations(root: Path) -> Iterator[Score]:
    for outcome, folder in runs(root):
        for clip in _clips(folder):
            value = _handed_on(clip)
            name, source = str(clip["clip"]), str(clip.get("source_clip") or "")
            yield Score(
                name,
                outcome.method,
                outcome.seed,
                "vae_generations",
                "1",
                value,
                int(clip["frames"]),
                source_clip=source,
            )


def _clips(folder: Path) -> Sequence[Mapping[str, Any]]:
    """What a finished run says of its clips; nothing where it does not say."""
    with suppress(InputError):
        return [clip for clip in read_facts(folder)["clips"] if clip.get("vae_generations")]
    return []


def _handed_on(clip: Mapping[str, Any]) -> float | None:
    """The slope of a clip's VAE generations over the frames of the clip; between key frames a frame
    has that of the key frame before it."""
    frames = np.arange(int(clip["frames"]))
    at, values = np.array(clip["vae_generations"], np.float64).T
    held = values[np.clip(np.searchsorted(at, frames, "right") - 1, 0, None)]
    return slope(frames.tolist(), held.tolist())


def drift_table(rows: Sequence[Score], about: Experiment) -> Table:
    """Rows of methods, their drift per 100 frames; floors first."""
    found = {(each.method, each.metric): each for each in stats.summarise(rows)}
    methods = sorted({row.method for row in rows}, key=about.place)
    metrics = [name for name in UNITS if any(row.metric == name for row in rows)]

    def cell(method: str, metric: str) -> Cell:
        s = found.get((method, metric))
        return Cell() if s is None else Cell(s.mean, s.low, s.high, s.clips, s.of)

    lines = {method: tuple(cell(method, name) for name in metrics) for method in methods}
    columns = []
    for place, name in enumerate(metrics):
        means = [cells[place].mean for cells in lines.values()]
        power, decimals = rounding([mean for mean in means if mean is not None])
        columns.append(Column(name, unit=UNITS[name], power=power, decimals=decimals))
    names = {method: about.printed(method) for method in methods}
    floors = sum(is_floor(method) for method in methods)
    title = "Drift per 100 frames"
    return Table(title, tuple(columns), lines, NOTES, "tab:drift_meter", names, floors=floors)
