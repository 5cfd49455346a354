"""The scores of one finished video: from the stage store, or measured and kept there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eval import score_files
from eval.contracts import Metric, Score
from eval.measure import score
from eval.metrics.weights import digest
from rerender.codec import open_video
from rerender.jobs.render_clip import ClipTask

STAGE = "scores"


def score_clip(task: ClipTask, metrics: tuple[Metric, ...], path: Path, device: str) -> list[Score]:
    """What metrics say of a video, one row for each, in their order.

    Rows without a value are not kept: what is missing may be there the next time.

    Args:
        task: how the video was made.
        metrics: in the order of the configuration.
        path: the video file.
        device: where networks run.
    """
    method, sha256 = task.record.folder.name, digest(path)
    keys = [task.stages.score(name, sha256) for name in task.stages.tree.get("metrics") or {}]
    found = {key: row for key in keys if (row := _known(task, key))}
    missing = {key: m for key, m in zip(keys, metrics, strict=True) if key not in found}
    if missing:
        result, flow = open_video(path), task.parts.flow
        wanted = list(missing.values())
        clip = replace(task.clip, video=task.clip.output)
        new = score(clip, result, wanted, flow, method, task.seed, task.record, device)
        found |= {key: _kept(task, key, row) for key, row in zip(missing, new, strict=True)}
    return [replace(found[key], method=method, seed=task.seed) for key in keys]


def _known(task: ClipTask, key: str) -> Score | None:
    data = task.cache.get(STAGE, key)
    return (
        None
        if data is None
        else replace(score_files.parse(data, Path(key))[0], clip=task.clip.name)
    )


def _kept(task: ClipTask, key: str, row: Score) -> Score:
    if row.value is None:
        return row
    data = score_files.dump([row])
    task.cache.put(STAGE, key, data)
    return score_files.parse(data, Path(key))[
        0
    ]  # its curve is rounded, as it will be the next time
