"""All metrics over one result in a single pass; ``python -m eval.score`` does whole folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from eval.contracts import (
    Batch,
    Gauge,
    Metric,
    Moment,
    Reading,
    Score,
    SeveralResults,
    Trial,
    UnavailableError,
    finite,
)
from rerender.contracts import FlowEstimator
from rerender.errors import ConfigError, InputError
from rerender.fitting import resize
from rerender.scene import Watch
from rerender.video import Clip, Video

BATCH = 8  # frames decoded and measured together


def score(
    clip: Clip,
    result: Video,
    metrics: Sequence[Metric],
    flow: FlowEstimator,
    method: str,
    seed: int | None = None,
    watch: Watch | None = None,
    device: str = "cpu",
) -> list[Score]:
    """Measure one result with every metric; each frame of either video is decoded once.

    Frames are compared by position; where the counts differ, the ones that both have. A result
    of another size is brought to the source's size, and its rows say so.

    Args:
        clip: the source, its prompts, and the truth where it is known.
        result: the finished video.
        metrics: what to measure; no two of one name.
        flow: estimator for the source's motion.
        method: name of what made the result.
        seed: the seed it was made with.
        watch: told of the progress under the stage "score".
        device: where networks run.

    Returns:
        One row for each metric, in the order given. What cannot be measured has no value and its
        note gives the reason.

    Raises:
        InputError: one of the videos has no frame.
        ConfigError: two metrics have one name.
    """
    named = _named(metrics)
    for video in (clip.video, result):
        if not len(video):
            raise InputError(clip.name, "a video to be scored has no frames", "make it again")
    trial = Trial(clip, result, flow.open(clip), device)
    missing = {name: reason for name, metric in named.items() if (reason := _gap(metric, trial))}
    gauges = {name: metric.open(trial) for name, metric in named.items() if name not in missing}
    curves = _measure(trial, gauges, watch or Watch())
    readings = {
        name: named[name].read(curves[name], trial)
        if name in gauges
        else Reading(None, 0, f"n/a: {missing[name]}")
        for name in named
    }
    return [
        Score(
            clip.name,
            method,
            seed,
            name,
            named[name].version,
            finite(reading.value),
            reading.n,
            "; ".join(filter(None, [reading.note, *_remarks(trial, reading)])),
            named[name].direction,
            named[name].unit,
            curves.get(name, ()),
            kind=clip.kind,
            source_clip=clip.source_clip,
        )
        for name, reading in readings.items()
    ]


@torch.inference_mode()
def score_several(
    clip: Clip,
    results: Sequence[Video],
    metric: SeveralResults,
    flow: FlowEstimator,
    method: str,
    device: str = "cpu",
) -> Score:
    """Measure several results of one clip together; one alone has no value, and its row says so."""
    trial = Trial(clip, results[0], flow, device)
    try:
        if len(results) < 2:
            metric.check(trial)
        metric.check_weights()
        reading = metric.across(trial, results)
    except UnavailableError as reason:
        reading = Reading(None, 0, f"n/a: {reason}")
    return Score(
        clip.name,
        method,
        None,
        metric.name,
        metric.version,
        finite(reading.value),
        reading.n,
        reading.note,
        metric.direction,
        metric.unit,
        kind=clip.kind,
        source_clip=clip.source_clip,
    )


def _named(metrics: Sequence[Metric]) -> dict[str, Metric]:
    named = {metric.name: metric for metric in metrics}
    if len(named) != len(metrics):
        names = ", ".join(sorted(metric.name for metric in metrics))
        raise ConfigError(
            "metrics", f"two have one name, received {names}", "leave one of them out"
        )
    return named


def _gap(metric: Metric, trial: Trial) -> str | None:
    """Why a metric cannot be measured here, or None."""
    try:
        metric.check(trial)
    except UnavailableError as reason:
        return str(reason)
    return None


def _remarks(trial: Trial, reading: Reading) -> list[str]:
    """What the reader of a value should know of the two videos."""
    remarks: list[str] = []
    source, result = trial.clip.video, trial.result
    if reading.value is None:
        return remarks
    if len(source) != len(result):
        remarks.append(f"{len(result)} frames, the source has {len(source)}")
    if source.size != result.size:
        was, now = result.size, source.size
        remarks.append(f"resized from {was[1]}x{was[0]} to {now[1]}x{now[0]}")
    return remarks


@torch.inference_mode()
def _measure(
    trial: Trial, gauges: Mapping[str, Gauge], watch: Watch
) -> dict[str, tuple[float | None, ...]]:
    """The curve of every gauge, in one pass over the two videos."""
    curves: dict[str, list[float | None]] = {name: [] for name in gauges}
    total = min(len(trial.clip.video), len(trial.result))
    for batch in _batches(trial, total) if gauges else ():
        for name, gauge in gauges.items():
            curves[name] += [finite(value) for value in gauge(batch)]
        watch.advance("score", batch.moments[-1].index + 1, total, trial.clip.name)
    return {name: tuple(curve) for name, curve in curves.items()}


def _batches(trial: Trial, total: int) -> Iterator[Batch]:
    """The videos' frames, ``BATCH`` moments at a time."""
    first = previous = None
    for start in range(0, total, BATCH):
        moments = tuple(_moment(trial, i) for i in range(start, min(start + BATCH, total)))
        first = first or moments[0]
        yield Batch(moments, previous, first, trial.flow)
        previous = moments[-1]


def _moment(trial: Trial, index: int) -> Moment:
    source, result = trial.clip.video[index], trial.result[index]
    height, width = source.shape[-2:]
    return Moment(index, source, resize(result, (height, width)).clamp(0, 1))
