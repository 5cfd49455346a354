"""The stages of dvc.yaml that follow a sweep, each with an output of its own.

``python -m experiments.dvc_stages runs DIR +exp=NAME key=value...`` brings the finished runs of a
sweep together, ``scores RUNS DIR`` measures them, ``tables RUNS SCORES DIR`` makes tables and the
report page. DVC removes the output of a stage before it runs, so the work is done in a folder
under .work that is nobody's output, and promoted when it is whole: what is measured stays.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from eval import score_files, stats
from experiments import experiment, report, tables
from experiments.finish_sweep import check_apart, copy, promote
from rerender import files
from rerender.config.compose import literal, preflight
from rerender.config.foreign import allowing
from rerender.errors import InputError
from rerender.exits import Parser, command
from rerender.run_folder import CONFIG, METRICS, REPORT, SCORES, damaged

WORK = Path(".work/stages")
MEANS = "means.csv"


def runs(target: Path, settings: Sequence[str]) -> None:
    """Bring the runs of a sweep together.

    Args:
        target: the output.
        settings: as for ``python -m rerender.run``.

    Raises:
        ConfigError: a setting is wrong.
        InputError: a job of the sweep is not finished.
    """
    from rerender.jobs.sweep import jobs_of, spread
    from rerender.store.run_identity import place, read

    sweep = spread(preflight(literal(settings)))
    jobs_of(sweep.jobs)
    folders = [place(tree, sweep.name) for tree in sweep.jobs]
    for folder in folders:
        facts = read(folder)
        if facts is None:
            raise InputError(folder, "is not finished", "run the experiment first")
        if torn := damaged(folder, facts):
            raise InputError(folder / torn[0], "is damaged or missing", "run the experiment again")
    promote(target, folders)
    experiment.write(target, sweep.table, tuple(folder.name for folder in folders))


def scores(source: Path, target: Path) -> None:
    """Measure runs: ``scores.jsonl``, and means by method as ``metrics.json`` and ``means.csv``.

    Raises:
        InputError: there are no runs, or a video cannot be read.
    """
    from eval.score import score_folder

    check_apart(target, source)
    work = files.unlinked(Path(), WORK / "scores" / _word(source))
    with files.lock(work):
        promote(work, _runs(source))
        measured = score_folder(work, None).rows
        files.put(target / SCORES, (work / SCORES).read_bytes())
    means: dict[str, dict[str, float]] = {}
    for row in sorted(stats.summarise(measured), key=lambda s: (s.method, s.metric)):
        if row.mean is not None:
            means.setdefault(row.method, {})[row.metric] = row.mean
    files.put_json(target / METRICS, means)
    files.put(target / MEANS, _csv(means).encode())


def _csv(means: dict[str, dict[str, float]]) -> str:
    metrics = sorted({name for values in means.values() for name in values})
    text = io.StringIO()
    table = csv.DictWriter(text, ["method", *metrics], restval="")
    table.writeheader()
    for method, values in means.items():
        table.writerow({"method": method, **{name: repr(v) for name, v in values.items()}})
    return text.getvalue()


def page(source: Path, scored: Path, target: Path) -> None:
    """Make the tables and the report page.

    Raises:
        InputError: there are no runs or no scores.
    """
    check_apart(target, source, scored)
    work = files.unlinked(Path(), WORK / "tables" / _word(source))
    with files.lock(work):
        promote(work, _runs(source))
        files.put(
            work / SCORES,
            score_files.dump(score_files.read(scored / SCORES)),
        )
        about = source / experiment.EXPERIMENT
        files.remove(work / REPORT)
        files.remove(work / experiment.EXPERIMENT)
        if about.is_file():
            files.copy(about, work / experiment.EXPERIMENT)
        made = tables.write(work)
        report.build(work)
        for file in made:
            files.put(target / file.name, file.read_bytes())
        files.unlinked(target, target / REPORT)
        copy(work / REPORT, target / REPORT)


def _runs(source: Path) -> list[Path]:
    if not source.is_dir():
        raise InputError(source, "is not a folder", "name a folder of runs")
    places = [*source.iterdir(), *source.glob("*/*")]  # shares of a set are folders of their own
    return [path for path in sorted(places) if (path / CONFIG).is_file()]


def _word(source: Path) -> str:
    """A folder's path as one name."""
    return "-".join(part.strip("/\\") for part in source.parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.dvc_stages", description=__doc__)
    stage = parser.add_subparsers(dest="stage", required=True)
    one = stage.add_parser("runs", help="bring the finished runs of a sweep together")
    one.add_argument("target", type=Path)
    one.add_argument("settings", nargs="*", help="key=value, as for python -m rerender.run")
    two = stage.add_parser("scores", help="measure runs")
    three = stage.add_parser("tables", help="make tables and the report page")
    for parts in (two, three):
        allowing(parts)
        parts.add_argument("source", type=Path)
    three.add_argument("scored", type=Path)
    for parts in (two, three):
        parts.add_argument("target", type=Path)
    given = parser.parse_args(arguments)
    if given.stage == "runs":
        runs(given.target, given.settings)
    elif given.stage == "scores":
        scores(given.source, given.target)
    else:
        page(given.source, given.scored, given.target)


if __name__ == "__main__":
    sys.exit(main())
