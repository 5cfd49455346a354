"""What a command would do: its jobs, their folders, what is complete, and what the rest takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender.config import Sweep
from rerender.identity import OUTPUTS, Identity, place, read
from rerender.job import from_yaml
from rerender.record import CONFIG

_ALIKE = ("data", "model", "prompt")  # runs that agree in these take about as long
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Spent:
    """What a finished run took.

    Attributes:
        config: its configuration.
        seconds: of work, without loading the model.
        size: bytes of its folder.
    """

    config: Tree
    seconds: float
    size: int


def plan(sweep: Sweep) -> str:
    """The plan as text. Nothing is loaded, made or changed.

    A complete job is left as it is by a sweep, after its weights have been compared too; a
    command of a single job makes it again.
    """
    places = [place(tree, sweep.name) for tree in sweep.jobs]
    complete = [
        Identity.of(tree).finished(folder) for tree, folder in zip(sweep.jobs, places, strict=True)
    ]
    width = max(len(str(folder)) for folder in places)
    lines = [
        f"{number:4d}  {str(folder).ljust(width)}  {_state(folder, done)}"
        for number, (folder, done) in enumerate(zip(places, complete, strict=True), start=1)
    ]
    alone = len(places) == 1
    todo = [tree for tree, done in zip(sweep.jobs, complete, strict=True) if alone or not done]
    count = f"{len(places)} job{'s' * (not alone)}, {sum(complete)} complete, {len(todo)} to run"
    return "\n".join([*lines, count, *_costs(todo)]) + "\n"


def _state(folder: Path, complete: bool) -> str:
    if complete:
        return "complete"
    if read(folder) is not None:
        return "complete, but damaged or of other code, inputs or libraries"
    return "begun" if (folder / CONFIG).is_file() else "new"


def _costs(todo: Sequence[Tree]) -> list[str]:
    """Time and disk, from finished runs on the same clips with the same model."""
    if not todo:
        return []
    known = _spent(OUTPUTS)
    near = [[run for run in known if _alike(run.config, tree)] for tree in todo]
    sure = [runs for runs in near if runs]
    free = f"{shutil.disk_usage('.').free / 1e9:.1f} GB free"
    if not sure:
        return [f"time unknown: no finished run on the same clips with this model; {free}"]
    seconds = sum(sum(run.seconds for run in runs) / len(runs) for runs in sure)
    size = sum(sum(run.size for run in runs) / len(runs) for runs in sure)
    scale = len(todo) / len(sure)
    based = len({id(run) for runs in sure for run in runs})
    return [
        f"about {_time(seconds * scale)} and {size * scale / 1e6:.1f} MB on this machine, "
        f"judged by {based} finished run{'s' * (based != 1)}; {free}"
    ]


def _spent(outputs: Path) -> list[Spent]:
    found = []
    for folder in sorted(outputs.iterdir()) if outputs.is_dir() else ():
        facts = read(folder)
        if facts is not None:
            seconds = sum(spent for stage, spent in facts["seconds"].items() if stage != "load")
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            config = from_yaml((folder / CONFIG).read_text(encoding="utf-8"))
            found.append(Spent(config, seconds, size))
    return found


def _alike(one: Tree, other: Tree) -> bool:
    return all(one.get(key) == other.get(key) for key in _ALIKE)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
