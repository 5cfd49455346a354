"""How many clips a comparison needs: ``python -m experiments.power RESULTS``.

From the spread that was measured between clips: the number with which a difference of 5, 10 and
20 % to the reference row would be found with 80 % power, in every primary metric, after correction.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval import score_files, stats
from eval.score_files import Score
from experiments import experiment
from experiments.experiment import Experiment, is_floor
from experiments.tables import add_spec, spec_of
from rerender.errors import InputError
from rerender.exits import Parser, command
from rerender.run_folder import SCORES, known_score_file

EFFECTS = (0.05, 0.1, 0.2)  # differences relative to the reference row
POWER = 0.8
_MOST = 100_000


@dataclass(frozen=True)
class Need:
    """What it takes to see a difference between a row and the reference.

    Attributes:
        metric, method: names.
        videos: how many were measured.
        spread: standard deviation of the paired differences between videos, relative to the
            reference: of logarithms for ratio metrics.
        clips: needed for each of `EFFECTS`; None where more than 100,000.
    """

    metric: str
    method: str
    videos: int
    spread: float
    clips: tuple[int | None, ...]


def needs(scores: Sequence[Score], about: Experiment) -> Iterator[Need]:
    """Clips needed for every row and primary metric, seeds as many as were measured.

    Args:
        scores: rows of a score file.
        about: names the reference and the primary metrics.

    Raises:
        InputError: nothing names them, or no row has two videos in common with the reference.
    """
    spec, rows = about.table, stats.Scores(scores)
    if spec is None:
        cure = "name them: --reference ROW --primary METRIC,METRIC"
        raise InputError(SCORES, "no reference row and no primary metrics are known", cure)
    rivals = sorted({r.method for r in scores if not is_floor(r.method)}, key=about.place)
    others = [method for method in rivals if method != spec.reference]
    tests = len(others) * len(spec.primary)
    found = 0
    for metric in spec.primary:
        cells = rows.cells.get(metric, {})
        for method in others if spec.reference in cells else ():
            if method not in cells:
                continue
            values, logs, _ = rows.differences(metric, method, spec.reference)
            if len(values) < 2:
                continue
            found += 1
            own = cells[spec.reference]
            centre = abs(float(rows.by_video(metric, spec.reference, own).mean())) or 1.0
            spread = float(values.std(ddof=1)) / (1.0 if logs else centre)
            effects = [math.log1p(effect) if logs else effect for effect in EFFECTS]
            clips = tuple(clips_needed(spread, effect, tests) for effect in effects)
            yield Need(metric, method, len(values), spread, clips)
    if not found:
        problem = f"no row has two clips in common with the reference, {spec.reference}"
        raise InputError(SCORES, problem, "measure more clips, or name another row: --reference")


def clips_needed(spread: float, effect: float, tests: int, power: float = POWER) -> int | None:
    """The fewest clips with which a difference is found.

    The paired t test at 0.05 / tests has power ``P(|T| > t_{1-0.025/tests, n-1})`` with ``T``
    noncentral, ``n - 1`` degrees of freedom and noncentrality ``sqrt(n) effect / spread``; the
    sign-flip test has nearly the same, and needs 2^(1-n) tests < 0.05 besides.

    Args:
        spread: standard deviation of the paired differences.
        effect: their mean.
        tests: how many are corrected together.
        power: probability to find it, 0..1.

    Returns:
        The number; None where it is more than 100,000.
    """
    from scipy.stats import nct, t  # takes a second to load

    fewest = max(stats.needed(tests), 2)
    if spread == 0:
        return fewest

    def enough(count: int) -> bool:
        limit = float(t.ppf(1 - stats.LEVEL / tests / 2, count - 1))
        return bool(nct.sf(limit, count - 1, math.sqrt(count) * effect / spread) >= power)

    low, high = fewest - 1, fewest
    while not enough(high):
        low, high = high, 2 * high
        if low > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def report(found: Sequence[Need]) -> str:
    """The numbers as lines of text."""
    heads = ["metric", "row", "clips", "spread", *(f"for {effect:.0%}" for effect in EFFECTS)]
    rows = [heads]
    for need in found:
        clips = [f">{_MOST}" if count is None else str(count) for count in need.clips]
        rows.append([need.metric, need.method, str(need.videos), f"{need.spread:.1%}", *clips])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `rerender.exits`)."""
    return command(_main, arguments)


def _main(arguments: list[str]) -> None:
    parser = Parser(prog="python -m experiments.power", description=__doc__)
    parser.add_argument("results", type=Path, help="a folder with scores.jsonl")
    add_spec(parser)
    given = parser.parse_args(arguments)
    place = known_score_file(given.results)
    scores = score_files.read(place)
    if not scores:
        cure = f"run: python -m eval.score {given.results}"
        raise InputError(place, "holds no scores", cure)
    about = spec_of(experiment.read(given.results), given)
    found = list(needs(scores, about))
    sys.stdout.write(report(found))
    assert about.table is not None
    sys.stdout.write(
        f"clips needed to find a difference of so much to {about.table.reference} with "
        f"{POWER:.0%} power, p < 0.05 corrected for all tests; spread: of paired differences "
        "between clips, as a share of the reference\n"
    )


if __name__ == "__main__":
    sys.exit(main())
