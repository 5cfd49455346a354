"""The benchmark with known truth: ``python -m experiments.benchmark export FOLDER`` writes it,
``submit FOLDER RESULTS SUBMISSION --method NAME`` checks and seals results, ``board FOLDER
SUBMISSIONS`` measures all submissions anew and ranks them, ``budget RUNS`` says where the error of
runs of ours comes from.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.finish_sweep import check_apart
from rerender import files
from rerender.config.foreign import allowing
from rerender.errors import PartialSweepError
from rerender.exits import Parser, command, report

if TYPE_CHECKING:
    from experiments.benchmark.manifest import BenchmarkKey


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    # Each step loads what it computes with, so that the help and what is refused need not wait.
    given = _parser().parse_args(arguments)
    {"export": _export, "submit": _submit, "board": _board, "budget": _budget}[given.step](given)


def _parser() -> Parser:
    parser = Parser(prog="python -m experiments.benchmark", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    one = steps.add_parser("export", help="write the benchmark")
    one.add_argument("benchmark", type=Path, help="its folder, to be published as it is")
    one.add_argument("--key", type=Path, help="the organiser's key; FOLDER.key.json if not given")
    one.add_argument("--public", type=int, default=20, help="clips whose truth goes with them")
    one.add_argument("--hidden", type=int, default=10, help="clips whose truth is kept back")
    one.add_argument("--frames", type=int, default=25, help="length of every clip")
    one.add_argument("--size", type=int, default=128, help="side of the square frames, pixels")
    two = steps.add_parser("submit", help="check results and make a submission of them")
    two.add_argument("benchmark", type=Path)
    two.add_argument("results", type=Path, help="CLIP.mp4 or CLIP/000000.png, or a run of ours")
    two.add_argument("submission", type=Path, help="a new folder")
    two.add_argument("--method", required=True, help="name in the leaderboard")
    two.add_argument("--description", default="", help="one line on the method")
    three = steps.add_parser("board", help="measure all submissions and rank them")
    three.add_argument("benchmark", type=Path)
    three.add_argument("submissions", type=Path, help="one folder for each submission")
    four = steps.add_parser("budget", help="where the error of runs of ours comes from")
    four.add_argument("runs", type=Path, help="a run folder, or a folder of them")
    four.add_argument("--benchmark", type=Path, help="whose clips they were made from")
    for part in (two, three, four):
        part.add_argument("--key", type=Path, help="the organiser's key, for the hidden clips")
    allowing(four)
    four.add_argument("--out", type=Path, help="also write the numbers to this json file")
    return parser


def _key(given: Namespace) -> BenchmarkKey | None:
    from experiments.benchmark import manifest

    return None if given.key is None else manifest.read_key(given.key)


def _export(given: Namespace) -> None:
    from experiments.benchmark.export import export
    from rerender.jobs.progress import Progress

    folder = given.benchmark
    key = given.key or folder.with_name(f"{folder.name}.key.json")
    numbers = (given.public, given.hidden, given.frames, given.size)
    made = export(folder, key, *numbers, Progress())
    sys.stdout.write(f"{folder}  benchmark {made.id}, {len(made.entries)} clips: publish it\n")
    if given.hidden:
        sys.stdout.write(f"{key}  keep it to yourself\n")


def _submit(given: Namespace) -> None:
    from experiments.benchmark import manifest, submission

    benchmark = manifest.read(given.benchmark)
    tasks = manifest.tasks_of(benchmark, _key(given))
    made = submission.submit(
        benchmark, given.results, given.submission, given.method, given.description, tasks
    )
    sys.stdout.write(f"{made.folder}  {len(made.videos)} clips of {made.method}: send it\n")


def _board(given: Namespace) -> None:
    from experiments.benchmark import board, manifest
    from rerender.jobs.progress import Progress

    benchmark = manifest.read(given.benchmark)
    found = board.board(benchmark, given.submissions, _key(given), Progress())
    paths = board.write(found, given.submissions)
    for name, error in found.refused:
        report(f"{name}: {error}", "refused")
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    if found.refused:
        total = len(found.refused) + len(found.submissions)
        problem = f"{len(found.refused)} of {total} submissions are refused"
        raise PartialSweepError(given.submissions, problem, "see the leaderboard for reasons")


def _budget(given: Namespace) -> None:
    tasks = {}
    for path in (given.runs, given.benchmark, given.key) if given.out is not None else ():
        if path is not None:
            check_apart(given.out, path)
    from experiments.benchmark import error_budget, manifest
    from rerender.jobs.progress import Progress

    if given.benchmark is not None:
        tasks = manifest.tasks_of(manifest.read(given.benchmark), _key(given))
    found = error_budget.budgets(given.runs, tasks, Progress())
    if given.out is not None:
        files.put_json(given.out, [asdict(one) | {"sum": one.sum} for one in found])
    sys.stdout.write(error_budget.to_markdown(found))


if __name__ == "__main__":
    sys.exit(main())
