"""One job from its configuration to its results: check, load, and for each clip render, encode,
score and record."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval import score_files, stats
from eval.score_files import Score
from rerender import files
from rerender.codec import FORMATS, check_format, open_video
from rerender.compiled import warn_unkept
from rerender.config.compatibility import check_model
from rerender.config.device import check_devices
from rerender.config.job import Job, key_of, to_yaml
from rerender.exits import BUG, failure, warned
from rerender.fitting import fit
from rerender.jobs.clip_results import ClipResult, clip_facts, closing, finished_files, table_rows
from rerender.jobs.clip_workers import ClipWorkers
from rerender.jobs.contact_sheet import sheet
from rerender.jobs.device_pool import DevicePool, setup_of
from rerender.jobs.load_job import JobRun, load_job
from rerender.jobs.progress import Progress
from rerender.jobs.record import Record, check_names, check_place, claimed, logged
from rerender.jobs.render_clip import ClipTask, RenderedClip, render_clip
from rerender.jobs.score_clip import score_clip
from rerender.run_folder import (
    CONFIG,
    METRICS,
    OWN,
    SCORES,
    SHEET,
    VIDEO,
    sealed,
    sums,
)
from rerender.store.cache import Cache
from rerender.store.checkpoint import forget
from rerender.store.run_identity import Identity, check_apart, owner
from rerender.store.stage_keys import device_of
from rerender.video import Clip, Truth

log = logging.getLogger(__name__)


def run_job(
    tree: Mapping[str, Any],
    folder: Path,
    group: str,
    keep: bool = False,
    progress: Progress | None = None,
) -> list[ClipResult]:
    """Run one job; everything that can be refused is refused before anything is written.

    Args:
        tree: its resolved configuration.
        folder: where its results go.
        group: the experiment it belongs to, "" if none.
        keep: leave the folder as it is where it holds this very run, complete; nothing is returned.
        progress: shows how far it is; None for one of its own.

    Raises:
        RerenderError: whatever stops it; what is finished by then is kept.
    """
    results: list[ClipResult] = []
    with warned() as warnings:
        job = Job.of(tree)
        clips, identity = check_job(job, tree, folder), Identity.of(tree)
        with claimed(folder, _owned_by(tree), _waiting(folder) if keep else None):
            shown = progress or Progress()
            run = load_job(job, tree, identity, folder, warnings, keep, shown, clips)
            if run is None:
                return []
            with logged(folder, tuple(warnings)):
                with recorded(run, group), spread(run) as pool:
                    shown.clips([(clip.name, len(clip.video)) for clip in clips])
                    for number, clip in enumerate(clips):
                        shown.clip()
                        task = run.task(clip, folder / clip.name if len(clips) > 1 else folder)
                        if pool is not None:
                            workers = ClipWorkers(
                                pool, number, shown.credit, stages=task.stages, cache=run.cache
                            )
                            task = replace(task, workers=workers)
                        rendered = render_clip(task)  # and encode
                        write_sheet(task, clip.truth)
                        scores = score_clip(task, job.metrics, rendered.path, device_of(job.model))
                        results.append(record_clip(task, rendered, scores))
                    record_job(run, results)
                text = closing(folder, results, run.record.progress.seconds, job.format)
                log.info("done\n%s", text)
            sys.stdout.write(text)
    return results


@contextmanager
def spread(run: JobRun) -> Iterator[DevicePool | None]:
    """The processes of the devices that a job is spread over; None where it has one process."""
    if not run.job.devices:
        yield None
        return
    forget()  # the processes have a model each; this one may have looked at its weights
    setup = setup_of(run.tree, run.identity.inputs, run.loading.size_multiple, run.cache)
    with DevicePool(run.job.devices, setup) as pool:
        yield pool


def check_job(job: Job, tree: Mapping[str, Any], folder: Path) -> Sequence[Clip]:
    """The clips of a job, when nothing is found that would stop it."""
    check_apart(tree, folder)
    check_place(folder, _owned_by(tree))
    check_devices(job)
    warn_unkept()
    clips = job.clips()
    check_names(clips)
    for clip in clips:
        job.parts.check(clip, job.model.words(), job.model.prompt_weights)
        if form := FORMATS.get(job.format):
            full = job.data.output == "source"  # else the model's multiple changes no output size
            check_format(form, clip.video if full else fit(clip.video, job.data.size, 2))
    for loras in {(), *(asked.loras for clip in clips for asked in clip.ranges)}:
        job.model.adapted(loras).check(job.parts.names())
    check_model(job.parts, job.model, clips)
    if job.parts.keyframes.made_elsewhere:
        return clips  # the model is told nothing
    job.model.tell_styles([clip.prompt for clip in clips])
    job.model.tell_cut([prompt for clip in clips for prompt in job.parts.prompts(clip)])
    return clips


def _owned_by(tree: Mapping[str, Any]) -> Callable[[Path], bool | None]:
    key = key_of(tree)

    def owned(place: Path) -> bool | None:
        found = owner(place)
        return None if found is None else found == key

    return owned


def _waiting(folder: Path) -> Callable[[str], None]:
    return lambda owner: log.warning(
        "%s: the same run is being made by %s; waiting for it", folder, owner
    )


@contextmanager
def recorded(run: JobRun, group: str) -> Iterator[None]:
    """The record from its start to its end, however that comes about."""
    record = run.record
    files.put(record.folder / CONFIG, to_yaml(run.tree).encode())
    record.start(run.tree, group)
    code = BUG
    try:
        yield
        code = 0
    except BaseException as error:
        code, message = failure(error)
        log.error("%s", message)
        raise
    finally:
        record.finish(code)
    own, store = Cache(record.folder / OWN), run.job.store
    if not (store and own.root.absolute() == store.absolute()):
        own.remove()


def write_sheet(task: ClipTask, truth: Truth | None) -> None:
    """Source and result side by side."""
    video, result = task.clip.output, open_video(task.folder / VIDEO)
    files.put(task.folder / SHEET, files.png(sheet(video, result, truth)))
    task.record.progress.count("sheet")


def record_clip(task: ClipTask, rendered: RenderedClip, scores: Sequence[Score]) -> ClipResult:
    """Give the record the scores and the files of a clip."""
    _keep(task.record, scores)
    for finished in (rendered.path, task.folder / SHEET):
        task.record.file(finished)
    keys = tuple(task.record.kept.get("keys", ()))
    return ClipResult(task.clip, task.folder, rendered, keys, tuple(scores))


def record_job(run: JobRun, results: Sequence[ClipResult]) -> None:
    """Write scores.jsonl and, at last, metrics.json, which says that the run is complete."""
    record = run.record
    scores = [row for result in results for row in result.scores]
    score_files.write(record.folder / SCORES, scores)
    cells = [(row.clip, row.metric, row.version, row.value, row.n, row.note) for row in scores]
    record.table("scores", ("clip", "metric", "version", "value", "n", "note"), cells)
    metrics = list(dict.fromkeys(row.metric for row in scores))
    record.table(
        "clips", ("clip", "prompt", *metrics, "video", "sheet"), table_rows(results, metrics)
    )
    files.put_json(record.folder / METRICS, sealed(_facts(run, results)))
    # One value of each metric for the whole run, to sort, plot and sweep by.
    record.summary(stats.means(scores))
    record.summary({f"seconds/{stage}": s for stage, s in record.progress.spent.items()})


def _keep(record: Record, scores: Sequence[Score]) -> None:
    """Curves as rows, values as the summary."""
    for index in range(max((len(row.curve) for row in scores), default=0)):
        values = {row.metric: row.curve[index] for row in scores if index < len(row.curve)}
        record.log({f"{scores[0].clip}/{name}": value for name, value in values.items()}, index)
    record.summary({f"{row.clip}/{row.metric}": row.value for row in scores})


def _facts(run: JobRun, results: Sequence[ClipResult]) -> dict[str, Any]:
    """What metrics.json says."""
    folder, seconds = run.record.folder, run.record.progress.seconds
    return {
        "run": folder.name,
        "seed": run.job.seed,
        "clips": [clip_facts(result, folder) for result in results],
        "seconds": {name: round(spent, 3) for name, spent in seconds.items()},
        "computing": {name: round(s, 3) for name, s in run.record.progress.spent.items()},
        "weights": run.weights,
        "revisions": dict(run.job.model.revisions()),
        "warnings": list(run.warnings),
        "files": sums(folder, finished_files(folder, results, run.job.pictures)),
        **run.identity.facts(),
    }
