"""The report page of a results folder: ``python -m experiments.report RESULTS``.

One folder that is opened from disk: ``RESULTS/report/index.html``, with the videos beside it. It
reads nothing from the network, and its policy (CSP) allows no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader

from eval.references import TRUTH
from eval.score_files import Score
from experiments import experiment, pareto, tables
from experiments.drift import drift_table
from experiments.experiment import Experiment, is_floor
from experiments.formats import Table
from experiments.metric_names import metric, unit
from rerender import files
from rerender.config.compose import literal, preflight
from rerender.config.foreign import allowing
from rerender.errors import InputError, RerenderError
from rerender.exits import Parser, command, report
from rerender.run_folder import REPORT

if TYPE_CHECKING:
    from experiments.report_data import Study

HERE = Path(__file__).parent
PAGE, VENDOR = HERE / "page", HERE / "vendor" / "uplot"
INDEX = "index.html"
_BETTER = {"lower": "Lower", "higher": "Higher"}
_TEXTS = ("clip_score", "clip_score_demo")


def build(root: Path, tree: Mapping[str, Any] | None = None, title: str = "") -> Path:
    """Make the page of a results folder.

    Args:
        root: a run folder or a folder of results; scored or not.
        tree: configuration that says what the clips are; None for the runs' own.
        title: head of the page; "" takes the folder's name.

    Returns:
        The page's file.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError(root, "is not a folder", "name a folder of results")
    from experiments.media import FOLDER, Media  # loads what decodes and encodes videos
    from experiments.report_data import gather

    page = files.unlinked(root, root / REPORT / FOLDER).parent
    study = gather(root, Media(page), tree)
    name = title or root.resolve().name
    about = experiment.read(root)
    text = render(study, f"Rerender: {name}", _front(study, page, about), about)
    files.put(page / INDEX, text.encode(errors="replace"))
    return page / INDEX


def render(
    study: Study,
    title: str,
    front: Mapping[str, Any] | None = None,
    about: Experiment | None = None,
) -> str:
    """The page as HTML; every text of the study is escaped."""
    plot_css, plot_js = (
        (VENDOR / name).read_text(encoding="utf-8")
        for name in ("uPlot.min.css", "uPlot.iife.min.js")
    )
    css, js = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True)
    return environment.get_template("page.html.j2").render(
        title=title,
        summary=_summary(study),
        policy=policy(scripts=(plot_js, js), styles=(plot_css, css)),
        plot_css=plot_css,
        plot_js=plot_js,
        css=css,
        js=js,
        data={"clips": study.clips, "entries": study.entries, "metrics": _metrics(study.scores)},
        tables=_tables(study, about or Experiment()),
        published=tables.published(about),
        front=front,
        failed=study.failed,
        runs=study.runs,
        warned=[run for run in study.runs if run.get("warnings")],
    )


def _tables(study: Study, about: Experiment) -> list[Table]:
    """Scores, costs, and the drift meter where clips are long enough for it."""
    found = tables.tables(study.scores, study.costs, about, study.credits)
    return [*found, drift_table(study.drifts, about)] if study.drifts else found


def policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """A content security policy under which these texts run and nothing else does, and nothing is
    loaded but pictures and videos from the page's own disk."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_mark, scripts))}",
            f"style-src {' '.join(map(_mark, styles))}",
            "img-src 'self' file: data:",
            "media-src 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _mark(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _metrics(scores: Sequence[Score]) -> dict[str, dict[str, str]]:
    return {
        row.metric: {
            "better": _BETTER.get(row.direction, row.direction),
            "unit": unit(row.unit),
            "label": metric(row.metric),
        }
        for row in scores
    }


def _summary(study: Study) -> str:
    methods = {entry["method"] for entry in study.entries}
    counts = [
        (len(study.entries), "video"),
        (len(methods), "method"),
        (len(study.clips), "clip"),
        (len(study.scores), "score"),
    ]
    said = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    return f"{said}; {len(study.failed)} failed." if study.failed else f"{said}."


def _front(study: Study, page: Path, about: Experiment) -> dict[str, Any] | None:
    """Text agreement against warp error against seconds, where enough of it is known, with the
    printed names of rows in the experiment's order."""
    known = {row.metric for row in study.scores if row.value is not None}
    text = next((name for name in _TEXTS if name in known), None)
    if text is None or "warp_error" not in known:
        return None
    axes = [pareto.Axis(text, "higher"), pareto.Axis("warp_error", "lower")]
    points = [
        point
        for point in pareto.points(study.scores, axes)
        if not is_floor(point.method) or point.method == TRUTH
    ]
    timed = [*axes, pareto.Axis("seconds", "lower")]
    whole = pareto.points(study.scores, timed, study.seconds)
    if len([point for point in whole if None not in point.values]) > 1:
        axes, points = timed, whole
    axes = [replace(axis, name=metric(axis.name)) for axis in axes]
    ordered = sorted(points, key=lambda point: about.place(point.method))
    points = [replace(point, method=about.printed(point.method)) for point in ordered]
    if not pareto.figure(page / "media" / "front.png", points, axes):
        return None
    names = ", ".join(axis.name for axis in axes)
    missing = [point.method for point in points if None in point.values]
    unbeaten = pareto.front(points, axes)
    best = [point.method for point in points if point.method in unbeaten]
    return {"axes": names, "methods": best, "missing": missing, "image": "media/front.png"}


def _score(root: Path, tree: Mapping[str, Any] | None, with_vae: bool) -> None:
    """Bring the scores up to date; what cannot be scored is said, the page is made all the same."""
    from eval.score import score_folder

    try:
        score_folder(root, tree, with_vae=with_vae)
    except RerenderError as error:
        report(str(error), "not scored")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("results", type=Path, help="a run folder or a folder of results")
    parser.add_argument("settings", nargs="*", help="key=value that say what the clips are")
    parser.add_argument("--score", action="store_true", help="score what is not scored yet first")
    parser.add_argument("--vae", action="store_true", help="score the autoencoder's round trip too")
    parser.add_argument("--title", default="", help="head of the page")
    allowing(parser)
    given = parser.parse_intermixed_args(arguments)
    tree = preflight(literal(given.settings)).jobs[0] if given.settings else None
    if given.score:
        _score(given.results, tree, given.vae)
    sys.stdout.write(f"{build(given.results, tree, given.title)}\n")


if __name__ == "__main__":
    sys.exit(main())
