"""Tables of scores as csv, markdown and LaTeX: ``python -m experiments.tables RESULTS``.

A cell is the mean over clips with its 95 % interval. Rows are tested against one reference row in
the primary metrics of the experiment, corrected together; all else is descriptive. Bold is what the
data show to be better than every other row (not the floors), italic what they show to be second.
"""

from __future__ import annotations

import csv
import io
import logging
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from eval import score_files, stats
from eval.score_files import Score
from experiments import experiment
from experiments.costs import costs
from experiments.credits import credits
from experiments.escape import csv_cell
from experiments.experiment import Experiment, is_floor
from experiments.formats import Cell, Column, Table, numbers, rounded, to_csv, to_markdown
from experiments.latex_table import to_latex
from experiments.table_notes import MANY, gaps, remarks, said, seedless
from rerender import files
from rerender.config.table import UNTESTED, TableSpec
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.run_folder import REPORT, is_run, known_score_file

PUBLISHED = Path(__file__).with_name("published.yaml")
COMPARISONS = "comparisons.csv"
log = logging.getLogger(__name__)
USUAL = (  # what is printed where no experiment says it: those of these that were measured
    *("warp_error", "warp_error_long", "clip_score", "clip_score_demo", "tem_con", "lpips"),
    *("lpips_demo", "psnr", "structure", "flicker", "color_drift", "motion_kept", "ssim"),
)
_COLUMNS = 6


def tables(
    scores: Sequence[Score],
    spent: Sequence[Score],
    about: Experiment,
    credited: Sequence[str] = (),
) -> list[Table]:
    """The table of a score file, one for each kind of edit where there are several, and that of
    costs where they are known.

    Args:
        scores: rows of a score file, in any order.
        spent: what runs took, as rows.
        about: what the experiment says of its table.
        credited: whose clips they are, as notes of the first table.
    """
    whole = table(scores, about)
    found = [replace(whole, notes=(*whole.notes, *credited)), *by_kind(scores, about)]
    return [*found, cost_table(spent, about)] if spent else found


def by_kind(scores: Sequence[Score], about: Experiment | None = None) -> list[Table]:
    """A table for each kind of edit; none where all edits are of one kind, or of none."""
    kinds = sorted({row.kind for row in scores})
    if len(kinds) < 2:
        return []
    found = []
    for kind in kinds:
        one = table([row for row in scores if row.kind == kind], about)
        label = f"{one.label}_{kind or 'none'}"
        found.append(replace(one, title=f"{one.title}: {kind or 'no kind'}", label=label))
    return found


def table(scores: Sequence[Score], about: Experiment | None = None) -> Table:
    """The table of a score file. It does not depend on the order of the rows."""
    about = about or Experiment()
    methods = sorted({row.method for row in scores}, key=about.place)
    rivals = [method for method in methods if not is_floor(method)]
    family = _family(scores, about, rivals)
    found = {(s.method, s.metric): s for s in stats.summarise(scores)}
    columns = _columns(scores, about, family)
    differing = {
        (c.method, c.metric)
        for c in _compared(scores, about, rivals)
        if c.p_holm is not None and c.p_holm < stats.LEVEL and c.clips == c.of
    }
    places = {name: stats.leaders(scores, name, rivals, len(family)) for name in family}

    def cell(method: str, metric: str) -> Cell:
        s = found.get((method, metric))
        if s is None:
            return Cell()
        leaders = places.get(metric, (None, None))
        place = leaders.index(method) + 1 if method in leaders else 0
        differs = (method, metric) in differing
        return Cell(s.mean, s.low, s.high, s.clips, s.of, s.rank, place, differs)

    lines = {method: tuple(cell(method, c.name) for c in columns) for method in methods}
    shown = rounded(columns, [*lines.values()])
    remarked, marks = remarks(scores, methods, about)
    printed = [column.name for column in columns if column.shown]
    spoken = said(scores, about, rivals, family, printed)
    alike = seedless(scores, rivals, about)
    notes = (*spoken, *alike, *remarked, *gaps(scores, about, printed))
    title, label = (about.table.caption, about.table.label) if about.table else ("", "tab:scores")
    names = {method: about.printed(method) for method in methods}
    floors = len(methods) - len(rivals)
    return Table(title or "Scores", tuple(shown), lines, notes, label, names, marks, floors)


def cost_table(spent: Sequence[Score], about: Experiment) -> Table:
    """What rows cost; the mean over clips, never tested."""
    methods = sorted({row.method for row in spent}, key=about.place)
    metrics = dict.fromkeys(row.metric for row in spent)
    units = {row.metric: row.unit for row in spent}
    values = stats.Scores(spent)
    lines = {}
    for method in methods:
        cells = []
        for name in metrics:
            own = values.cells[name].get(method, {})
            mean = float(values.by_video(name, method, own).mean()) if own else None
            cells.append(Cell(mean, clips=len(own), of=len(values.clips(name))))
        lines[method] = tuple(cells)
    columns = rounded([Column(n, "lower", units[n]) for n in metrics], [*lines.values()])
    label = f"{about.table.label}_costs" if about.table else "tab:costs"
    names = {method: about.printed(method) for method in methods}
    return Table("Costs", tuple(columns), lines, COST_NOTES, label, names)


COST_NOTES = (
    "Mean over clips of what was spent when the stages were made, without loading, compiling and "
    "scoring: processor seconds of all threads, or seconds of the accelerator where one computes. "
    "Not tested. Peak memory is that of the process, libraries and its earlier jobs included.",
)


def _family(scores: Sequence[Score], about: Experiment, rivals: Sequence[str]) -> list[str]:
    """The metrics that are tested."""
    spec = about.table
    if spec is None or spec.reference not in rivals or not 1 < len(rivals) <= MANY:
        return []
    known = {row.metric for row in scores if row.value is not None}
    return [metric for metric in spec.primary if metric in known]


def _compared(
    scores: Sequence[Score], about: Experiment, rivals: Sequence[str]
) -> list[stats.Comparison]:
    """Every row against the reference; none where there is none, or too many rows."""
    family = _family(scores, about, rivals)
    if about.table is None or not family:
        return []
    return stats.compare(scores, about.table.reference, family, rivals)


def _columns(scores: Sequence[Score], about: Experiment, family: Sequence[str]) -> list[Column]:
    """All metrics: those that are printed first, in their order, then the others by name."""
    rows = {row.metric: row for row in sorted(scores, key=lambda row: row.value is not None)}
    known = {name for name, row in rows.items() if row.value is not None}
    spec = about.table
    shown = [name for name in spec.columns if name in rows] if spec else []
    if not shown:
        usual = [*family, *(name for name in USUAL if name in known)]
        others = sorted(known - {*UNTESTED, *usual})
        shown = list(dict.fromkeys([*usual, *others]))[:_COLUMNS] or sorted(rows)[:_COLUMNS]
    return [
        Column(name, rows[name].direction, _unit(rows[name]), name in shown, stats.is_ratio(name))
        for name in [*shown, *sorted(rows.keys() - {*shown})]
    ]


def _unit(row: Score) -> str:
    return "" if row.unit == "1" else row.unit


def published(about: Experiment | None = None, path: Path = PUBLISHED) -> list[Table]:
    """The numbers printed in papers, each table with its own protocol: those that an experiment
    wants beside its own, or all where nobody says.

    Raises:
        ConfigError: it wants one that is not there.
    """
    found = []
    loader = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
    entries = yaml.load(path.read_text(encoding="utf-8"), loader)  # digits as printed
    names = [entry["name"] for entry in entries]
    spec = about.table if about else None
    wanted = names if spec is None else spec.published
    if unknown := [name for name in wanted if name not in names]:
        problem = f"knows no {unknown[0]!r}"
        raise ConfigError("table.published", problem, f"choose from {', '.join(names)}")
    for entry in entries:
        if entry["name"] not in wanted:
            continue
        rows = entry["rows"]
        figures = tuple(dict.fromkeys(name for row in rows.values() for name in row))
        lines = {
            method: tuple(Cell(float(row[name])) if name in row else Cell() for name in figures)
            for method, row in rows.items()
        }
        columns = tuple(
            Column(name, decimals=max(_decimals(r[name]) for r in rows.values() if name in r))
            for name in figures
        )
        title = f"Published, another protocol: {entry['paper']}, {entry['table']}"
        notes, label = (f"Protocol: {entry['protocol']}.",), f"tab:published_{entry['name']}"
        found.append(Table(title, columns, lines, notes, label))
    return found


def _decimals(value: str) -> int:
    return len(value.partition(".")[2])


def comparisons_csv(scores: Sequence[Score], about: Experiment) -> str:
    """One line for each row under each metric, against the reference: what is tested with its p,
    the rest with its interval alone."""
    out = io.StringIO()
    writer = csv.writer(out)
    head = "metric method reference difference low high relative p p_holm clips of"
    writer.writerow(head.split())
    rivals = sorted({r.method for r in scores if not is_floor(r.method)}, key=about.place)
    for c in _compared(scores, about, rivals):
        texts = [csv_cell(text) for text in (c.metric, c.method, c.reference)]
        values = numbers(c.difference, c.low, c.high), numbers(c.p, c.p_holm)
        writer.writerow([*texts, *values[0], int(c.relative), *values[1], c.clips, c.of])
    return out.getvalue()


def write(root: Path, with_published: bool = True, about: Experiment | None = None) -> list[Path]:
    """Write table.csv, table.md, table.tex and comparisons.csv beside a score file; those of a run
    alone beside its page, since the folder of a run holds what the run made.

    Args:
        root: a folder that has been scored.
        with_published: add the numbers printed in papers.
        about: what the experiment says of its table; None reads it in the folder.

    Returns:
        The files.

    Raises:
        InputError: the folder has not been scored, or a file of it is damaged.
    """
    scores = score_files.read(known_score_file(root))
    if not scores:
        cure = f"run: python -m eval.score {root}"
        raise InputError(known_score_file(root), "holds no scores", cure)
    about = about or experiment.read(root)
    place = files.unlinked(root, root / REPORT) if is_run(root) else root
    if about.table is None and _compared_before(place / COMPARISONS):
        problem = "was made with a reference row that nobody says now: nothing is tested"
        cure = "run the experiment again, or say --reference and --primary"
        log.warning("%s: %s; %s", place / COMPARISONS, problem, cure)
    made = tables(scores, costs(root), about, credits(root))
    made += published(about) if with_published else []
    texts = {
        "table.csv": to_csv(made),
        "table.md": to_markdown(made),
        "table.tex": to_latex(made),
        COMPARISONS: comparisons_csv(scores, about),
    }
    for name, text in texts.items():
        files.put(place / name, text.encode(errors="replace"))
    return [place / name for name in texts]


def _compared_before(path: Path) -> bool:
    """Whether a file of comparisons holds any below its head."""
    return path.is_file() and path.read_bytes().count(b"\n") > 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.tables", description=__doc__)
    parser.add_argument("results", type=Path, help="a run folder or a folder of results; scored")
    parser.add_argument("--ours-only", action="store_true", help="leave the papers' numbers out")
    add_spec(parser)
    given = parser.parse_args(arguments)
    about = spec_of(experiment.read(given.results), given)
    paths = write(given.results, not given.ours_only, about)
    sys.stdout.write("".join(f"{path}\n" for path in paths))


_ASKED = {
    "reference": "the row that others are compared with",
    "primary": "metrics that are tested, with commas between them",
    "columns": "metrics that are printed, with commas between them",
    "caption": "what the table shows",
}


def add_spec(parser: Parser) -> None:
    """Let a command line say what an experiment would say of its table."""
    for name, meaning in _ASKED.items():
        parser.add_argument(f"--{name}", default="", help=meaning)


def spec_of(about: Experiment, given: Namespace) -> Experiment:
    """What is said of the table, changed by what the command line asks.

    Raises:
        ConfigError: it is refused.
    """
    asked = {name: getattr(given, name) for name in _ASKED if getattr(given, name)}
    for name in ("primary", "columns"):
        if name in asked:
            asked[name] = [word.strip() for word in asked[name].split(",")]
    if not asked:
        return about
    plain = about.table.plain() if about.table else {}
    return replace(about, table=TableSpec.of({**plain, **asked}))


if __name__ == "__main__":
    sys.exit(main())
