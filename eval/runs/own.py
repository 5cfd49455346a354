"""Rows that runs of ours have measured themselves, so that nobody measures them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import score_files
from eval.contracts import Score
from eval.results import Outcome, Tree
from eval.runs.sources import Protocol
from rerender.config.job import Job
from rerender.run_folder import SCORES
from rerender.store.run_identity import Identity, read
from rerender.video import Clip


class Own:
    """What complete runs say of their own videos.

    A run is believed if it is complete, of the present code, libraries and inputs, and its videos
    are undamaged; a row, if it was measured with the same metric and flow at the same size.
    """

    def __init__(self) -> None:
        self._runs: dict[Path, _Run | None] = {}

    def rows(self, outcome: Outcome, protocol: Protocol, clip: Clip) -> Mapping[str, Score]:
        """Rows by metric; none for a video that is not of such a run.

        Args:
            outcome: the video.
            protocol: what is to be measured of it.
            clip: its source, as the run's own configuration describes it.
        """
        folder = outcome.path.parent if outcome.clip is None else outcome.path.parent.parent
        if folder not in self._runs:
            self._runs[folder] = _read(folder, outcome.config)
        run = self._runs[folder]
        if run is None or repr(run.job.parts.flow) != repr(protocol.flow):
            return {}
        size, own = list(clip.video.size), {repr(metric) for metric in run.job.metrics}
        wanted = {metric.name: metric.version for metric in protocol.metrics if repr(metric) in own}
        return {
            row.metric: row
            for row in run.rows
            if outcome.clip in (None, row.clip)
            and run.sizes.get(row.clip) == size
            and wanted.get(row.metric) == row.version
        }


@dataclass(frozen=True)
class _Run:
    """A complete run: its configuration, the sizes at which its results were compared, its rows."""

    job: Job
    sizes: Mapping[str, Any]
    rows: Sequence[Score]


def _read(folder: Path, config: Tree | None) -> _Run | None:
    if config is None or not Identity.of(config).finished(folder):
        return None
    facts = read(folder)
    sizes = {clip["clip"]: clip.get("compared_size") for clip in (facts or {}).get("clips", ())}
    return _Run(Job.of(config), sizes, score_files.read(folder / SCORES))
