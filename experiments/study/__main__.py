"""Ask people: ``python -m experiments.study RESULTS`` writes RESULTS/study, with a static page in
which people compare two videos at a time without knowing what made them; ``python -m
experiments.study analyse RESULTS/study/votes`` says what their votes mean.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from eval import score_files
from experiments.study import votes
from experiments.study.design import QUESTIONS, Wanted
from experiments.study.tables import to_markdown
from experiments.study.votes import KEY
from rerender import files
from rerender.config.compose import literal, preflight
from rerender.config.foreign import allowing
from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command, report
from rerender.run_folder import known_score_file

ANALYSIS = "analysis"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    if arguments[:1] == ["analyse"]:
        _analyse(arguments[1:])
    else:
        _build(arguments)


def _build(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.study", description=__doc__)
    parser.add_argument("results", type=Path, help="a folder of results, at least two methods")
    parser.add_argument("settings", nargs="*", help="key=value that say what the clips are")
    parser.add_argument("--people", type=int, default=20, help="how many are invited")
    parser.add_argument("--trials", type=int, default=20, help="pairs of videos for each")
    parser.add_argument("--checks", type=int, default=2, help="attention checks for each, besides")
    parser.add_argument("--seed", type=int, default=0, help="of the design")
    parser.add_argument("--question", action="append", help="id=text, asked at every pair; again")
    parser.add_argument("--method", action="append", default=[], help="one that takes part; again")
    parser.add_argument("--title", default=Wanted.title, help="head of the page")
    parser.add_argument("--note", default="", help="a text below it")
    parser.add_argument("--with-source", action="store_true", help="show the source too")
    allowing(parser)
    given = parser.parse_intermixed_args(arguments)
    tree = preflight(literal(given.settings)).jobs[0] if given.settings else None
    wanted = Wanted(
        given.people,
        given.trials,
        given.checks,
        given.seed,
        _questions(given.question),
        tuple(given.method),
        given.title,
        given.note,
        given.with_source,
    )
    from experiments.study.build import INVITATIONS, SITE, VOTES, build  # loads what encodes

    folder = build(given.results, wanted, tree)
    said = {
        SITE: "put it on any web server, or hand it on as a folder",
        INVITATIONS: "one line for each person; keep it to yourself",
        KEY: "keep it to yourself",
        VOTES: "put the files that people send here",
    }
    sys.stdout.write("".join(f"{folder / name}  {what}\n" for name, what in said.items()))


def _questions(given: Sequence[str] | None) -> dict[str, str]:
    if given is None:
        return dict(QUESTIONS)
    found: dict[str, str] = {}
    for text in given:
        name, equals, said = text.partition("=")
        if not equals or name in found:
            problem = f"must be id=text, each id once, received {text!r}"
            raise ConfigError("--question", problem, 'say: --question steady="Which is steadier?"')
        found[name] = said
    return found


def _analyse(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.study analyse", description=__doc__)
    parser.add_argument("votes", type=Path, nargs="+", help="vote files, or folders of them")
    parser.add_argument("--key", type=Path, help="the study's key.json; else beside the votes")
    parser.add_argument("--scores", type=Path, help="scores.jsonl of the results; else beside")
    parser.add_argument(
        "--attention", type=float, default=0.75, help="share of attention checks to be passed"
    )
    parser.add_argument(
        "--leave-out", action="store_true", help="go on without the vote files that are refused"
    )
    given = parser.parse_args(arguments)
    if not 0 <= given.attention <= 1:
        problem = f"is a share, 0 to 1, received {given.attention}"
        raise ConfigError("--attention", problem, "try 0.75")
    place = given.votes[0].resolve().parent
    key_path = given.key or next(
        (folder / KEY for folder in (place, place.parent) if (folder / KEY).is_file()), place / KEY
    )
    key = votes.read_key(key_path)
    paths = [path for path in votes.files_of(given.votes) if path.resolve() != key_path.resolve()]
    ballots, refused = votes.read_all(paths, key)
    _require(refused, given.leave_out)
    if not ballots:
        raise InputError(given.votes[0], "holds no vote that counts", "collect votes first")
    from experiments.study.analysis import analyse  # loads what computes statistics

    rows = score_files.read(given.scores or known_score_file(key_path.resolve().parent.parent))
    found = analyse(key, ballots, rows, given.attention)
    found["refused"] = [str(error) for error in refused]
    targets = [key_path.parent / f"{ANALYSIS}.{kind}" for kind in ("json", "md")]
    files.put_json(targets[0], found)
    files.put(targets[1], to_markdown(found).encode(errors="replace"))
    sys.stdout.write("".join(f"{path}\n" for path in targets))


def _require(refused: Sequence[InputError], leave_out: bool) -> None:
    """Say every vote file that is refused; go on without them only where that is asked for."""
    if refused and not leave_out:
        for error in refused[1:]:
            report(str(error), "refused")
        first = refused[0]
        cure = f"{first.cure}; --leave-out goes on without what is refused"
        raise InputError(first.where, first.problem, cure)
    for error in refused:
        report(str(error), "refused")


if __name__ == "__main__":
    sys.exit(main())
