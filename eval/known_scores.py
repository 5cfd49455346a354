"""Nothing is measured twice: a score has a key, and who needs a value looks for that key first.

The key is the hash of everything that decides the value (`rerender.store.stage_keys.score_key`). It
stands in the row wherever the row lies: in the stage store, where the runs of a machine share rows,
and in the score files of runs and of folders of results, which are complete by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from eval import score_files
from eval.contracts import Metric
from eval.score_files import Score


class KnownScores(Protocol):
    """Rows that were measured before, by key. A dictionary is one."""

    def get(self, key: str, /) -> Score | None:
        """The row with a key; None where there is none, or a damaged one."""

    def __setitem__(self, key: str, row: Score, /) -> None:
        """Keep a row under its key."""


def measured_once(
    known: KnownScores,
    metrics: Sequence[tuple[str, Metric]],
    measure: Callable[[list[Metric]], list[Score]],
) -> list[Score]:
    """One row for each metric: a known one, or a new one, which is then known.

    A row without a value has no key and is not kept: what is missing may be there the next time.

    Args:
        known: the rows at hand.
        metrics: each with the key of its row.
        measure: gives one row for each of some metrics; it is called once, or not at all.

    Returns:
        The rows, in the order of the metrics. Clip, method and seed of a known row are those it
        was measured under.
    """
    rows = [known.get(key) for key, _ in metrics]
    missing = [place for place, row in enumerate(rows) if row is None]
    new = measure([metrics[place][1] for place in missing]) if missing else []
    for place, row in zip(missing, new, strict=True):
        key = metrics[place][0] if row.value is not None else ""
        # Its curve is rounded now, as it will be when it is read back.
        rows[place] = kept = score_files.rounded(replace(row, key=key))
        if key:
            known[key] = kept
    return [row for row in rows if row is not None]
