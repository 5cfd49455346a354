"""Tables of scores as csv, markdown and LaTeX: ``python -m experiments.tables RESULTS``.

A cell is the mean over clips with its 95 % interval. Bold is what the data show to be better than
every other method (not the floors) after correction for all comparisons of the table.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from eval import score_files, stats
from eval.contracts import Score
from eval.references import SOURCE, TRUTH, VAE
from experiments.costs import costs
from experiments.credits import credits
from experiments.escape import csv_cell
from experiments.formats import Cell, Table, numbers, to_csv, to_latex, to_markdown
from rerender import files
from rerender.errors import InputError
from rerender.exits import Parser, command
from rerender.run_folder import SCORES

PUBLISHED = Path(__file__).with_name("published.yaml")
FLOORS = (SOURCE, VAE, TRUTH)
ROUND_TRIPS = "vae_round_trip_k"  # names of runs of method=vae begin so
MANY = 40  # methods beyond which pairs are not tested: no difference would survive the correction
_ARROWS = {"lower": "↓", "higher": "↑"}


def table(scores: Sequence[Score], title: str = "Scores") -> Table:
    """The table of a score file. It does not depend on the order of the rows."""
    known = {row.metric for row in scores if row.value is not None}
    ordered = sorted(scores, key=lambda row: (row.metric not in known, row.metric))
    metrics = {row.metric: row for row in ordered}
    methods = sorted({row.method for row in scores}, key=_place)
    summaries = stats.summarise(scores)
    found = {(s.method, s.metric): s for s in summaries}
    comparisons = stats.compare(scores, _rivals(scores), intervals=False)
    winners = {
        name: stats.best(name, row.direction, summaries, comparisons)
        for name, row in metrics.items()
    }

    def cell(method: str, metric: str) -> Cell:
        s = found.get((method, metric))
        if s is None:
            return Cell()
        return Cell(s.mean, s.low, s.high, s.clips, s.rank, winners[metric] == method)

    columns = tuple(_head(row) for row in metrics.values())
    lines = {method: tuple(cell(method, name) for name in metrics) for method in methods}
    return Table(title, columns, lines, _notes(scores))


def credited(made: Table, root: Path) -> Table:
    """A table of a folder's results with whose clips they are."""
    return replace(made, notes=(*made.notes, *credits(root)))


def by_kind(scores: Sequence[Score]) -> list[Table]:
    """A table for each kind of edit; none where all edits are of one kind, or of none."""
    kinds = sorted({row.kind for row in scores})
    if len(kinds) < 2:
        return []
    return [
        table([row for row in scores if row.kind == kind], f"Scores: {kind or 'no kind'}")
        for kind in kinds
    ]


def is_floor(method: str) -> bool:
    """Whether a method is there to compare with, not to compete."""
    return method in FLOORS or method.startswith(ROUND_TRIPS)


def _competing(scores: Sequence[Score]) -> list[str]:
    return sorted({row.method for row in scores if not is_floor(row.method)})


def _rivals(scores: Sequence[Score]) -> list[str]:
    """The methods that are compared: all but the floors; none where there are too many."""
    names = _competing(scores)
    return names if len(names) <= MANY else []


def _place(method: str) -> tuple[int, str]:
    known = FLOORS.index(method) if method in FLOORS else len(FLOORS)
    return known + (not is_floor(method)), method


def _head(row: Score) -> str:
    unit = "" if row.unit == "1" else f" ({row.unit})"
    return f"{row.metric}{unit} {_ARROWS.get(row.direction, '')}".rstrip()


def _notes(scores: Sequence[Score]) -> tuple[str, ...]:
    """How many clips and seeds, and why values are missing."""
    clips = {row.clip for row in scores}
    seeds = {row.seed for row in scores if row.seed is not None}
    notes = [
        f"Mean over {len(clips)} clip{'s' * (len(clips) != 1)}"
        f" ({len(seeds) or 1} seed{'s' * (len(seeds) > 1)}), 95 % bootstrap interval over clips.",
        "Bold: better than every other method in a sign-flip test over clips, corrected (Holm) for"
        " all comparisons of the table, p < 0.05; floors do not compete.",
    ]
    if len(_competing(scores)) > MANY:
        notes[1] = f"More than {MANY} methods: they are not tested against each other."
    missing: dict[str, set[str]] = {}
    for row in scores:
        if row.value is None:
            missing.setdefault(row.note, set()).add(row.metric)
    reasons = sorted(f"{', '.join(sorted(names))}: {note}" for note, names in missing.items())
    return (*notes, *reasons)


def published(path: Path = PUBLISHED) -> list[Table]:
    """The numbers printed in papers, each table with its own protocol."""
    tables = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        columns = tuple(next(iter(entry["rows"].values())))
        lines = {
            method: tuple(Cell(float(values[name])) for name in columns)
            for method, values in entry["rows"].items()
        }
        title = f"Published, another protocol: {entry['paper']}, {entry['table']}"
        tables.append(Table(title, columns, lines, (f"Protocol: {entry['protocol']}.",)))
    return tables


def comparisons_csv(scores: Sequence[Score]) -> str:
    """One line for each pair of methods (floors aside) under each metric, with its test."""
    out = io.StringIO()
    writer = csv.writer(out)
    head = "metric first second difference low high p p_holm clips"
    writer.writerow(head.split())
    for c in stats.compare(scores, _rivals(scores)):
        texts = [csv_cell(text) for text in (c.metric, c.first, c.second)]
        values = numbers(c.difference, c.low, c.high, c.p, c.p_holm)
        writer.writerow([*texts, *values, c.clips])
    return out.getvalue()


def write(root: Path, with_published: bool = True) -> list[Path]:
    """Write the tables (csv, md, tex) and ``comparisons.csv`` beside a folder's scores.

    Raises:
        InputError: the folder has not been scored.
    """
    scores = score_files.read(root / SCORES)
    if not scores:
        cure = f"run: python -m eval.score {root}"
        raise InputError(root / SCORES, "holds no scores", cure)
    scores += costs(root)
    tables = [credited(table(scores), root), *by_kind(scores)]
    tables += published() if with_published else []
    texts = {
        "table.csv": to_csv(tables),
        "table.md": to_markdown(tables),
        "table.tex": to_latex(tables),
        "comparisons.csv": comparisons_csv(scores),
    }
    for name, text in texts.items():
        files.put(root / name, text.encode(errors="replace"))
    return [root / name for name in texts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.tables", description=__doc__)
    parser.add_argument("results", type=Path, help="a folder with scores.jsonl")
    parser.add_argument("--ours-only", action="store_true", help="leave the papers' numbers out")
    given = parser.parse_args(arguments)
    paths = write(given.results, not given.ours_only)
    sys.stdout.write("".join(f"{path}\n" for path in paths))


if __name__ == "__main__":
    sys.exit(main())
