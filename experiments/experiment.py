"""What a results folder says of its experiment: experiment.yaml, written where a sweep ends.

It holds what the experiment's yaml says of its table, and its runs in the order of the sweep. A
folder without one, such as one of somebody else's videos, has rows in the order of their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eval.references import SOURCE, TRUTH, VAE
from eval.results import discover
from rerender import files
from rerender.config.table import TableSpec
from rerender.errors import InputError
from rerender.run_folder import CONFIG, LOG, SEAL, VIDEO, files_below, read_config, sealed

EXPERIMENT = "experiment.yaml"
FLOORS = (SOURCE, VAE, TRUTH)
_NUMBERED = re.compile(r"(.*\D)(\d+)")
_ROUND_TRIPS = "vae_round_trip_k"  # names of runs of method=vae begin so


@dataclass(frozen=True)
class Experiment:
    """What tables need to know besides scores.

    Attributes:
        table: which row others are compared with, what is tested and shown; None where nobody says.
        runs: names of the run folders, in the order of the sweep.
        places: method -> its place in that order; found from the folder.
        unfinished: name of each run without a video -> the reason.
    """

    table: TableSpec | None = None
    runs: tuple[str, ...] = ()
    places: Mapping[str, int] | None = None
    unfinished: Mapping[str, str] | None = None

    def place(self, method: str) -> tuple[int, int, int, str]:
        """Where a row stands: floors, then our runs as they were swept, then others in the order in
        which the table names them, then by name."""
        if method in FLOORS or is_floor(method):
            return 0, FLOORS.index(method) if method in FLOORS else len(FLOORS), 0, method
        named = [*self.table.rows] if self.table else []
        listed = named.index(method) if method in named else len(named)
        return 1, (self.places or {}).get(method, len(self.runs)), listed, method

    def printed(self, method: str) -> str:
        """A row's printed name: the experiment's, also where the number at its end is another one
        (`rerender_k5` of an experiment that names `rerender_k10` "Rerender, K=10")."""
        names = self.table.rows if self.table else {}
        own = _NUMBERED.fullmatch(method)
        if method in names or own is None:
            return names.get(method, method)
        for row, name in names.items():
            other = _NUMBERED.fullmatch(row)
            if other and other[1] == own[1]:
                again, count = re.subn(rf"(?<![\d.]){other[2]}(?![\d.])", own[2], name)
                return again if count == 1 else method
        return method


def is_floor(method: str) -> bool:
    """Whether a method is there to compare with, not to compete."""
    return method in FLOORS or method.startswith(_ROUND_TRIPS)


def read(root: Path) -> Experiment:
    """What a results folder says of its experiment.

    Raises:
        InputError: its file is damaged, or a folder can be read in two ways.
        ConfigError: the table that it describes is refused.
    """
    found: Mapping[str, Any] = {}
    if (root / EXPERIMENT).is_file():
        found = read_config(root / EXPERIMENT)
        said = {name: value for name, value in found.items() if name != SEAL}
        if sealed(said) != found:
            problem = "is damaged or was edited (it does not fit its own sha256)"
            cure = "run the experiment again, or remove it and say --reference and --primary"
            raise InputError(root / EXPERIMENT, problem, cure)
    names = found.get("runs")
    runs = tuple(map(str, names)) if isinstance(names, list) else ()
    spec = TableSpec.of(found["table"]) if found.get("table") else None
    order = {name: index for index, name in enumerate(runs)}
    places: dict[str, int] = {}
    with suppress(InputError):  # said by those who score
        for outcome in discover(root):
            if outcome.run is not None:
                place = order.get(outcome.run.name, len(runs))
                places[outcome.method] = min(place, places.get(outcome.method, place))
    return Experiment(spec, runs, places, unfinished(root))


def write(root: Path, table: TableSpec | None, runs: tuple[str, ...]) -> None:
    """Say it, for whoever makes the tables again."""
    plain = {"table": table.plain() if table else None, "runs": list(runs)}
    text = yaml.safe_dump(sealed(plain), sort_keys=False, allow_unicode=True, width=100)
    files.put(root / EXPERIMENT, text.encode())


def unfinished(root: Path) -> dict[str, str]:
    """Run folders without a video, and why."""
    folders = [root, *files.children(root)]
    return {
        folder.name: _reason(folder)
        for folder in folders
        if (folder / CONFIG).is_file()
        and not any(file.name == VIDEO for file in files_below(folder))
    }


def _reason(folder: Path) -> str:
    """The last error in a run's log."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    return errors[-1].strip() if errors else "not finished; the same command goes on with it"
