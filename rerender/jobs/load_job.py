"""What is known of the model, the stage store and the record of a job before its clips are made."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender import files
from rerender.codec import FORMATS
from rerender.config.job import Job
from rerender.contracts import Model
from rerender.jobs.memory_demand import demand_of
from rerender.jobs.progress import Progress
from rerender.jobs.record import Record
from rerender.jobs.render_clip import STAGE, ClipTask
from rerender.run_folder import EVAL_SCORES, METRICS, OWN
from rerender.store.cache import Cache
from rerender.store.checkpoint import Loading, Loras
from rerender.store.key_frames import KEYS
from rerender.store.network_outputs import kept
from rerender.store.run_identity import Identity
from rerender.store.stage_keys import device_of, stages_of
from rerender.translation.placement import placed_parts
from rerender.video import Clip

log = logging.getLogger(__name__)

SHARED = {"keys"}  # pictures of stages that are taken from the store


@dataclass(frozen=True)
class JobRun:
    """A job that has its folder, and what all its clips have in common.

    Attributes:
        weights: digest of all weights, those of LoRAs in ranges too.
        warnings: what was warned of so far; it grows.
    """

    job: Job
    tree: Mapping[str, Any]
    identity: Identity
    loading: Loading
    weights: str
    cache: Cache
    record: Record
    warnings: Sequence[str]

    def task(self, clip: Clip, folder: Path) -> ClipTask:
        """A clip at the size at which it is processed, and what its video is made of."""
        log.info("clip %s: %d frames", clip.name, len(clip.video))
        self.record.at(folder)
        stages = stages_of(self.job, self.tree, self.identity, clip, self.loading)
        parts = kept(self.job.parts, self.cache, self.identity.inputs)
        parts = placed_parts(parts, device_of(self.job.model), back=True)
        return ClipTask(
            stages.clip,
            folder,
            parts,
            self.job.seed,
            self._load,
            stages,
            self.cache,
            self.record,
            FORMATS.get(self.job.format),
        )

    def _load(self, loras: Loras = ()) -> Model:
        model = self.loading.adapted(loras).model()
        self.record.progress.count("load")
        return model


def shared_store(job: Job) -> Cache | None:
    """The stage store that a job shares with others; None where it has its own."""
    return Cache(job.store) if job.store and set(job.pictures) <= SHARED else None


def needs_model(
    job: Job,
    tree: Mapping[str, Any],
    identity: Identity,
    loading: Loading,
    clips: Sequence[Clip],
) -> bool:
    """Whether a model will be loaded: unless the stage store knows the weights, and has the videos
    or the key frames of all clips."""
    shared = shared_store(job)
    sets = {(), *(asked.loras for clip in clips for asked in clip.ranges)}
    if shared is None or not all(loading.adapted(loras).known() for loras in sets):
        return True
    for clip in clips:
        stages = stages_of(job, tree, identity, clip, loading)
        if not job.pictures and shared.has(STAGE, stages.video):
            continue
        if not all(shared.has(KEYS, part.keys) for part in stages.parts):
            return True
    return False


def load_job(
    job: Job,
    tree: Mapping[str, Any],
    identity: Identity,
    folder: Path,
    warnings: Sequence[str],
    keep: bool,
    progress: Progress,
    clips: Sequence[Clip] = (),
) -> JobRun | None:
    """What is known of the model, the stage store and the record of a job that has its folder; None
    where ``keep`` and the folder holds this very run, complete."""
    files.sweep(folder)
    if job.store:
        Cache(job.store).open()
    shared = shared_store(job)
    demand = demand_of(job, clips) if clips else None
    loading = Loading(job.model, job.parts.names(), shared, demand)
    weights = loading.digest_with(asked.loras for clip in clips for asked in clip.ranges)
    done = keep and identity.finished(folder, weights)
    progress.count("load")
    if done:
        progress.close()
        sys.stdout.write(f"{folder}/  complete already; remove it to make it again\n")
        return None
    if needs_model(job, tree, identity, loading, clips):
        loading.check_memory()  # the folder is still as it was found
    for outdated in (METRICS, EVAL_SCORES):  # the first says that a run is complete
        files.remove(folder / outdated)
    record = Record(folder, job.tracker, job.pictures, progress)
    cache = shared or Cache(folder / OWN)
    return JobRun(job, tree, identity, loading, weights, cache, record, warnings)
