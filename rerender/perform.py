"""One job from its configuration to its results: check, load, and for each clip render, encode,
score and record."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eval import rows
from eval.contracts import Score
from eval.metrics.weights import digest
from eval.score import score
from rerender import store
from rerender.codec import Encoded, encode, open_video
from rerender.contracts import Checkpoint, Model
from rerender.exits import BUG, failure
from rerender.fit import fit, to_output
from rerender.identity import METRICS, Identity
from rerender.job import Job, from_yaml, key_of, to_yaml
from rerender.pipeline import render
from rerender.progress import Progress
from rerender.record import CONFIG, Record, check_place, claimed, logged
from rerender.sheet import sheet
from rerender.video import Clip

log = logging.getLogger(__name__)

VIDEO, SHEET, SCORES = "video.mp4", "sheet.png", "scores.jsonl"


@dataclass(frozen=True)
class Result:
    """What became of one clip.

    Attributes:
        clip: the source as it was processed.
        folder: where its files are.
        encoded: how the video was written.
        keys: numbers of its key frames, where their pictures are kept.
        scores: what was measured.
    """

    clip: Clip
    folder: Path
    encoded: Encoded
    keys: tuple[int, ...]
    scores: tuple[Score, ...]


def perform(tree: Mapping[str, Any], folder: Path, group: str, keep: bool = False) -> list[Result]:
    """Run one job; everything that can be refused is refused before anything is written.

    Args:
        tree: its resolved configuration.
        folder: where its results go.
        group: the experiment it belongs to, "" if none.
        keep: leave the folder as it is where it holds this very run, complete; nothing is returned.

    Raises:
        RerenderError: whatever stops it; what is finished by then is kept.
    """
    job = Job.of(tree)
    key = key_of(tree)

    def same(text: str) -> bool:
        return key_of(from_yaml(text)) == key

    check_place(folder, same)
    clips = job.data.clips()
    job.model.check(job.parts.names())
    identity = Identity.of(tree)
    progress = Progress()
    with claimed(folder, same):
        model = _loaded(job.model, tuple(job.parts.names()))
        progress.count("load")
        if keep and identity.finished(folder, model.digest()):
            progress.close()
            sys.stdout.write(f"{folder}/  complete already; remove it to make it again\n")
            return []
        (folder / METRICS).unlink(missing_ok=True)  # it says that a run is complete
        record = Record(folder, job.tracker, job.pictures, progress)
        with logged(folder):
            results = _recorded(job, clips, model, record, (tree, group, identity))
            text = closing(folder, results, progress.seconds)
            log.info("done\n%s", text)
        sys.stdout.write(text)
        return results


_MODEL: dict[tuple[str, tuple[str, ...]], Model] = {}  # the one that was loaded last


def _loaded(checkpoint: Checkpoint, controls: tuple[str, ...]) -> Model:
    """The model; a sweep in one process loads the same one once, and holds never two."""
    key = (repr(checkpoint), controls)
    if key not in _MODEL:
        _MODEL.clear()
        _MODEL[key] = checkpoint.load(controls)
    return _MODEL[key]


def _recorded(
    job: Job,
    clips: Sequence[Clip],
    model: Model,
    record: Record,
    what: tuple[Mapping[str, Any], str, Identity],
) -> list[Result]:
    """All clips, between the record's start and its end, however that comes about."""
    store.put(record.folder / CONFIG, to_yaml(what[0]).encode())
    record.start(*what[:2])
    code = BUG
    try:
        results = _all(job, clips, model, record)
        scores = [row for result in results for row in result.scores]
        rows.write(record.folder / SCORES, scores)
        cells = [(row.clip, row.metric, row.version, row.value, row.n, row.note) for row in scores]
        record.table("scores", ("clip", "metric", "version", "value", "n", "note"), cells)
        facts = {**_facts(job, results, model, record), **what[2].facts()}
        store.put_json(record.folder / METRICS, facts)
        record.summary({f"seconds/{stage}": s for stage, s in record.progress.seconds.items()})
        code = 0
        return results
    except BaseException as error:
        code, message = failure(error)
        log.error("%s", message)
        raise
    finally:
        record.finish(code)


def _all(job: Job, clips: Sequence[Clip], model: Model, record: Record) -> list[Result]:
    results: list[Result] = []
    for clip in clips:
        record.at(record.folder / clip.name if len(clips) > 1 else record.folder)
        log.info("clip %s: %d frames", clip.name, len(clip.video))
        results.append(_one(job, clip, model, record))
    return results


def _one(job: Job, clip: Clip, model: Model, record: Record) -> Result:
    """One clip: render, encode, show, score."""
    clip = replace(clip, video=fit(clip.video, job.data.size, model.multiple))
    path = record.place / VIDEO
    rendered = render(clip, model, job.parts, job.seed, record)
    frames = (to_output(image, clip.video) for image in rendered)
    with store.writing(path) as file:
        encoded = encode(frames, clip.video, file)
    record.progress.count("encode")
    result = open_video(path)
    store.put(record.place / SHEET, store.png(sheet(clip.video, result, clip.truth)))
    record.progress.count("sheet")
    name, device = record.folder.name, _device(job.model)
    scores = score(clip, result, job.metrics, job.parts.flow, name, job.seed, record, device)
    _keep(record, scores)
    for finished in (path, record.place / SHEET):
        record.file(finished)
    return Result(clip, record.place, encoded, tuple(record.kept.get("keys", ())), tuple(scores))


def _device(checkpoint: Checkpoint) -> str:
    """Where metrics compute: where the model does."""
    chosen = str(getattr(checkpoint, "device", "cpu"))
    if chosen != "auto":
        return chosen
    return "cuda" if torch.cuda.is_available() else "cpu"


def _keep(record: Record, scores: Sequence[Score]) -> None:
    """Curves as rows, values as the summary."""
    for index in range(max((len(row.curve) for row in scores), default=0)):
        values = {row.metric: row.curve[index] for row in scores if index < len(row.curve)}
        record.log({f"{scores[0].clip}/{name}": value for name, value in values.items()}, index)
    record.summary({f"{row.clip}/{row.metric}": row.value for row in scores})


def _facts(job: Job, results: Sequence[Result], model: Model, record: Record) -> dict[str, Any]:
    """What metrics.json says."""
    return {
        "run": record.folder.name,
        "seed": job.seed,
        "clips": [_clip_facts(result, record.folder) for result in results],
        "seconds": {name: round(spent, 3) for name, spent in record.progress.seconds.items()},
        "weights": model.digest(),
    }


def _clip_facts(result: Result, folder: Path) -> dict[str, Any]:
    video = result.clip.video
    return {
        "clip": result.clip.name,
        "prompt": result.clip.prompt,
        "video": (result.folder / VIDEO).relative_to(folder).as_posix(),
        "sha256": digest(result.folder / VIDEO),
        "frames": len(video),
        "processed_size": list(video.size),
        "size": list(result.encoded.size),
        "padding": list(result.encoded.padding),
        "audio": result.encoded.audio,
        "keys": list(result.keys),
        "scores": {
            row.metric: {
                "value": row.value,
                "n": row.n,
                "note": row.note,
                "version": row.version,
            }
            for row in result.scores
        },
    }


def closing(folder: Path, results: Sequence[Result], seconds: Mapping[str, float]) -> str:
    """What a run says at its end: where things are, and a small table of scores."""
    lines = [f"{folder}/"]
    for result in results:
        height, width = result.clip.video.output_size
        frames = len(result.clip.video)
        lines.append(f"  {result.folder / VIDEO}  {frames} frames, {width}x{height}")
        lines.append(f"  {result.folder / SHEET}  source and result side by side")
    rows = [("clip", "metric", "value", "")]
    for result in results:
        for row in result.scores:
            value = "n/a" if row.value is None else f"{row.value:.6g}"
            rows.append((row.clip, row.metric, value, row.note))
    widths = [max(len(cells[column]) for cells in rows) for column in range(3)]
    for cells in rows if len(rows) > 1 else ():
        padded = [cell.ljust(width) for cell, width in zip(cells[:3], widths, strict=True)]
        lines.append("  ".join(["", *padded, cells[3]]).rstrip())
    lines.append("  ".join(["", *(f"{stage} {spent:.1f} s" for stage, spent in seconds.items())]))
    return "\n".join(lines) + "\n"
