"""One job from its configuration to its results: check, load, and for each clip render, encode,
score and record."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval import score_files
from eval.contracts import Score
from rerender import files
from rerender.codec import open_video
from rerender.compiled import warn_unkept
from rerender.config.device import check_devices
from rerender.config.job import Job, key_of, to_yaml
from rerender.exits import BUG, failure, warned
from rerender.jobs.contact_sheet import sheet
from rerender.jobs.progress import Progress
from rerender.jobs.record import Record, check_names, check_place, claimed, logged
from rerender.jobs.render_clip import Film, Take, film
from rerender.jobs.score_clip import measured
from rerender.run_folder import CONFIG, METRICS, OWN, SCORES, SHEET, VIDEO, sealed, sums
from rerender.store.cache import Cache
from rerender.store.checkpoint import Loading
from rerender.store.network_outputs import kept
from rerender.store.run_identity import Identity, check_apart, owner
from rerender.store.stage_keys import device_of, stages_of
from rerender.video import Clip, sha256_file

log = logging.getLogger(__name__)

SHARED = {"keys"}  # pictures of stages that are taken from the store


@dataclass(frozen=True)
class Result:
    """What became of one clip.

    Attributes:
        clip: the source as it was processed.
        folder: where its files are.
        film: its video, how it was written and what it took.
        keys: numbers of its key frames, where their pictures are kept.
        scores: what was measured.
    """

    clip: Clip
    folder: Path
    film: Film
    keys: tuple[int, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Studio:
    """What all clips of a run have in common.

    Attributes:
        warnings: what was warned of so far; it grows.
    """

    job: Job
    tree: Mapping[str, Any]
    identity: Identity
    loading: Loading
    cache: Cache
    record: Record
    warnings: Sequence[str]

    def take(self, clip: Clip) -> Take:
        """A clip at the size at which it is processed, and what its film is made of."""
        job, model = self.job, self.loading.model
        stages = stages_of(job, self.tree, self.identity, clip, self.loading)
        parts = kept(job.parts, self.cache, self.identity.inputs)
        return Take(stages.clip, parts, job.seed, model, stages, self.cache, self.record)


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
    with warned() as warnings:
        return _perform(tree, folder, group, keep, warnings)


def _perform(
    tree: Mapping[str, Any], folder: Path, group: str, keep: bool, warnings: Sequence[str]
) -> list[Result]:
    job = Job.of(tree)
    key = key_of(tree)

    def ours(place: Path) -> bool | None:
        found = owner(place)
        return None if found is None else found == key

    check_apart(tree, folder)
    check_place(folder, ours)
    check_devices(job)
    warn_unkept()
    clips = job.data.clips()
    check_names(clips)
    for clip in clips:
        job.parts.check(clip)
    job.model.check(job.parts.names())
    job.model.tell_cut([prompt for clip in clips for prompt in job.parts.prompts(clip)])
    identity = Identity.of(tree)
    progress = Progress()

    def waiting(owner: str) -> None:
        log.warning("%s: the same run is being made by %s; waiting for it", folder, owner)

    with claimed(folder, ours, waiting if keep else None):
        files.sweep(folder)
        if job.store:
            Cache(job.store).open()
        shared = Cache(job.store) if job.store and set(job.pictures) <= SHARED else None
        loading = Loading(job.model, job.parts.names(), shared)
        done = keep and identity.finished(folder, loading.digest)
        progress.count("load")
        if done:
            progress.close()
            sys.stdout.write(f"{folder}/  complete already; remove it to make it again\n")
            return []
        files.remove(folder / METRICS)  # it says that a run is complete
        record = Record(folder, job.tracker, job.pictures, progress)
        own = Cache(folder / OWN)
        studio = Studio(job, tree, identity, loading, shared or own, record, warnings)
        with logged(folder, tuple(warnings)):
            results = _recorded(studio, clips, group)
            if not (job.store and own.root.absolute() == job.store.absolute()):
                own.remove()
            text = closing(folder, results, progress.seconds)
            log.info("done\n%s", text)
        sys.stdout.write(text)
        return results


def _recorded(studio: Studio, clips: Sequence[Clip], group: str) -> list[Result]:
    """All clips, between the record's start and its end, however that comes about."""
    record = studio.record
    files.put(record.folder / CONFIG, to_yaml(studio.tree).encode())
    record.start(studio.tree, group)
    code = BUG
    try:
        results = _all(studio, clips)
        scores = [row for result in results for row in result.scores]
        score_files.write(record.folder / SCORES, scores)
        cells = [(row.clip, row.metric, row.version, row.value, row.n, row.note) for row in scores]
        record.table("scores", ("clip", "metric", "version", "value", "n", "note"), cells)
        files.put_json(record.folder / METRICS, sealed(_facts(studio, results)))
        record.summary({f"seconds/{stage}": s for stage, s in record.progress.seconds.items()})
        code = 0
        return results
    except BaseException as error:
        code, message = failure(error)
        log.error("%s", message)
        raise
    finally:
        record.finish(code)


def _all(studio: Studio, clips: Sequence[Clip]) -> list[Result]:
    results: list[Result] = []
    folder = studio.record.folder
    for clip in clips:
        studio.record.at(folder / clip.name if len(clips) > 1 else folder)
        log.info("clip %s: %d frames", clip.name, len(clip.video))
        results.append(_one(studio, clip))
    return results


def _one(studio: Studio, clip: Clip) -> Result:
    """One clip: make or find its video, show and score it."""
    record, job = studio.record, studio.job
    take = studio.take(clip)
    path = record.place / VIDEO
    made = film(take, path)
    result = open_video(path)
    files.put(record.place / SHEET, files.png(sheet(take.clip.video, result, clip.truth)))
    record.progress.count("sheet")
    scores = measured(take, job.metrics, path, device_of(job.model))
    _keep(record, scores)
    for finished in (path, record.place / SHEET):
        record.file(finished)
    keys = tuple(record.kept.get("keys", ()))
    return Result(take.clip, record.place, made, keys, tuple(scores))


def _keep(record: Record, scores: Sequence[Score]) -> None:
    """Curves as rows, values as the summary."""
    for index in range(max((len(row.curve) for row in scores), default=0)):
        values = {row.metric: row.curve[index] for row in scores if index < len(row.curve)}
        record.log({f"{scores[0].clip}/{name}": value for name, value in values.items()}, index)
    record.summary({f"{row.clip}/{row.metric}": row.value for row in scores})


def _facts(studio: Studio, results: Sequence[Result]) -> dict[str, Any]:
    """What metrics.json says."""
    folder, seconds = studio.record.folder, studio.record.progress.seconds
    return {
        "run": folder.name,
        "seed": studio.job.seed,
        "clips": [_clip_facts(result, folder) for result in results],
        "seconds": {name: round(spent, 3) for name, spent in seconds.items()},
        "weights": studio.loading.digest,
        "warnings": list(studio.warnings),
        "files": sums(folder, _finished(studio, results)),
        **studio.identity.facts(),
    }


def _finished(studio: Studio, results: Sequence[Result]) -> list[Path]:
    """The files that a run ends with. What only grows (run.log, record.jsonl, wandb/) tells what
    happened and decides nothing; its lock is nobody's result."""
    found = [studio.record.folder / name for name in (CONFIG, SCORES)]
    for result in results:
        found += [result.folder / VIDEO, result.folder / SHEET]
        for name in studio.job.pictures:
            found += (result.folder / name).glob("*.png")
    return found


def _clip_facts(result: Result, folder: Path) -> dict[str, Any]:
    video = result.clip.video
    return {
        "clip": result.clip.name,
        "prompt": result.clip.prompt,
        "video": (result.folder / VIDEO).relative_to(folder).as_posix(),
        "sha256": sha256_file(result.folder / VIDEO),
        "frames": len(video),
        "processed_size": list(video.size),
        "size": list(result.film.encoded.size),
        "padding": list(result.film.encoded.padding),
        "audio": result.film.encoded.audio,
        "seconds": dict(result.film.seconds),
        "peak_memory": result.film.peak,
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
