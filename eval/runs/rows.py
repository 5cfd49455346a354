"""The rows in the score files of runs of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

from eval import score_files
from eval.results import Outcome
from eval.score_files import Score
from rerender.errors import InputError
from rerender.run_folder import SCORES, damaged, read_facts

log = logging.getLogger(__name__)


def rows_of_runs(outcomes: Sequence[Outcome]) -> Iterator[Score]:
    """What the runs that made some videos have measured themselves. A score file that is damaged,
    or not what its run has written, is said once and left out.

    Args:
        outcomes: the videos.
    """
    for run in dict.fromkeys(outcome.run for outcome in outcomes):
        if run is not None:
            changed: list[str] = []
            with suppress(InputError):  # a run that is not finished has no sums yet
                changed = damaged(run, read_facts(run), [SCORES])
            if changed and (run / SCORES).is_file():
                problem = "does not fit its sha256 in metrics.json"
                log.warning("%s: %s; measured again", run / SCORES, problem)
            else:
                yield from score_files.intact(run / SCORES)
