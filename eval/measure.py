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
    SeveralResults,
    Trial,
    UnavailableError,
)
from eval.pairing import Pairing, pair
from eval.score_files import Score, finite
from rerender.contracts import FlowEstimator
from rerender.errors import ConfigError, InputError
from rerender.fitting import resize
from rerender.keyframes._cuts import Changes
from rerender.scene import Watch
from rerender.video import Clip, Video

BATCH = 8  # frames decoded and measured together
FEWEST = 4  # frames among which a border between shots can stand out
CUT_RATIO, CUT_FLOOR = 4.0, 0.04  # of a border between shots, as of keyframes=scene_cut


def score(
    clip: Clip,
    result: Video,
    metrics: Sequence[Metric],
    flow: FlowEstimator,
    method: str,
    seed: int | None = None,
    watch: Watch | None = None,
    device: str = "cpu",
    offset: int | None = None,
) -> list[Score]:
    """Measure one result with every metric; each frame of either video is decoded once.

    Frames are compared as `eval.pairing` pairs them; where it cannot, values are None and say why.
    A result of another size is brought to the source's size. Rows say either. Values that look back
    over the border between two shots of the source are left out.

    Args:
        clip: the source, its prompts, and the truth where it is known.
        result: the finished video.
        metrics: what to measure; no two of one name.
        flow: estimator for the source's motion.
        method: name of what made the result.
        seed: the seed it was made with.
        watch: told of the progress under the stage "score".
        device: where networks run.
        offset: the source's frame that the result's first frame stands for; None finds out.

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
    try:
        pairing = pair(clip.video, result, offset)
    except UnavailableError as reason:
        pairing = Pairing(())
        missing |= {name: str(reason) for name, m in named.items() if m.paired}
    gauges = {name: metric.open(trial) for name, metric in named.items() if name not in missing}
    measured, cuts = _measure(trial, pairing, gauges, watch or Watch())
    curves = {n: _within_shots(curve, cuts, named[n].looks_back) for n, curve in measured.items()}
    readings = {
        name: named[name].read(curves[name], trial)
        if name in gauges
        else Reading(None, 0, f"n/a: {missing[name]}")
        for name in named
    }
    rows = []
    for name, reading in readings.items():
        remark = _remark(trial, pairing, reading)
        rows.append(_row(clip, method, seed, named[name], reading, curves.get(name, ()), remark))
    return rows


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
    return _row(clip, method, None, metric, reading)


def _row(
    clip: Clip,
    method: str,
    seed: int | None,
    metric: Metric,
    reading: Reading,
    curve: tuple[float | None, ...] = (),
    remark: str = "",
) -> Score:
    return Score(
        clip.name,
        method,
        seed,
        metric.name,
        metric.version,
        finite(reading.value),
        reading.n,
        reading.note,
        metric.direction,
        metric.unit,
        curve,
        remark=remark,
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


def _remark(trial: Trial, pairing: Pairing, reading: Reading) -> str:
    """What the reader of a value should know of the two videos."""
    source, result = trial.clip.video, trial.result
    if reading.value is None:
        return ""
    remarks = [pairing.remark] if pairing.remark else []
    if source.size != result.size:
        was, now = result.size, source.size
        remarks.append(f"resized from {was[1]}x{was[0]} to {now[1]}x{now[0]}")
    return "; ".join(remarks)


@torch.inference_mode()
def _measure(
    trial: Trial, pairing: Pairing, gauges: Mapping[str, Gauge], watch: Watch
) -> tuple[dict[str, list[float | None]], list[int]]:
    """The curve of every gauge in one pass over the two videos, and the places of those pairs that
    begin a new shot of the source."""
    curves: dict[str, list[float | None]] = {name: [] for name in gauges}
    total, changes = len(pairing.pairs), Changes()
    for batch in _batches(trial, pairing) if gauges else ():
        for name, gauge in gauges.items():
            curves[name] += [finite(value) for value in gauge(batch)]
        for moment in batch.moments:
            changes.add(moment.source)
        watch.advance("score", len(changes), total, trial.clip.name)
    known = len(changes) >= FEWEST  # with fewer frames nothing says how restless a shot is
    return curves, changes.cuts(CUT_RATIO, CUT_FLOOR) if known else []


def _within_shots(
    curve: Sequence[float | None], cuts: Sequence[int], looks_back: int
) -> tuple[float | None, ...]:
    """A curve without the values that look over a border between shots."""
    over = {cut + after for cut in cuts for after in range(looks_back)}
    return tuple(None if place in over else value for place, value in enumerate(curve))


def _batches(trial: Trial, pairing: Pairing) -> Iterator[Batch]:
    """The videos' frames that belong together, ``BATCH`` moments at a time."""
    first = previous = None
    for start in range(0, len(pairing.pairs), BATCH):
        moments = tuple(_moment(trial, *each) for each in pairing.pairs[start : start + BATCH])
        first = first or moments[0]
        yield Batch(moments, previous, first, trial.flow)
        previous = moments[-1]


def _moment(trial: Trial, index: int, at: int) -> Moment:
    source, result = trial.clip.video[index], trial.result[at]
    height, width = source.shape[-2:]
    return Moment(index, source, resize(result, (height, width)).clamp(0, 1))
