"""The scores of one finished video: from the stage store, or measured and kept there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eval import score_files
from eval.contracts import Metric
from eval.known_scores import measured_once
from eval.measure import score
from eval.metrics.weights import digest
from eval.score_files import Score
from rerender.codec import open_video
from rerender.jobs.render_clip import ClipTask
from rerender.store.cache import Cache

STAGE = "scores"


@dataclass(frozen=True)
class StoredScores:
    """The rows in a stage store, by key (see `eval.known_scores.KnownScores`)."""

    cache: Cache

    def get(self, key: str) -> Score | None:
        """A row that fits its checksum; None where there is none."""
        data = self.cache.get(STAGE, key)
        return None if data is None else score_files.parse(data, Path(key))[0]

    def __setitem__(self, key: str, row: Score) -> None:
        self.cache.put(STAGE, key, score_files.dump([row]))


def score_clip(task: ClipTask, metrics: tuple[Metric, ...], path: Path, device: str) -> list[Score]:
    """What metrics say of a video, one row for each, in their order.

    Args:
        task: how the video was made.
        metrics: in the order of the configuration.
        path: the video file.
        device: where networks run.
    """
    method, sha256, clip = task.record.folder.name, digest(path), task.clip
    names = task.stages.tree.get("metrics") or {}
    keyed = [
        (task.stages.score(name, metric.version, sha256), metric)
        for name, metric in zip(names, metrics, strict=True)
    ]

    def measure(missing: list[Metric]) -> list[Score]:
        source, flow, seed = replace(clip, video=clip.output), task.parts.flow, task.seed
        return score(source, open_video(path), missing, flow, method, seed, task.record, device)

    rows = measured_once(StoredScores(task.cache), keyed, measure)
    return [
        replace(
            row,
            clip=clip.name,
            method=method,
            seed=task.seed,
            kind=clip.kind,
            source_clip=clip.source_clip,
        )
        for row in rows
    ]
