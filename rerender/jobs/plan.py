"""What a command would do: its jobs, their folders, what is complete, and what the rest takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender.config.compose import Sweep
from rerender.config.job import Job
from rerender.errors import InputError
from rerender.files import children
from rerender.run_folder import CONFIG, files_below, read_config
from rerender.store.cache import Cache
from rerender.store.checkpoint import Loading
from rerender.store.run_identity import OUTPUTS, Identity, place, read
from rerender.store.stage_keys import stages_of
from rerender.video import Clip

STAGES = ("keys", "video")
_ALIKE = ("data", "model", "prompt")  # runs that agree in these take about as long
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Spent:
    """What a finished run took, or would have taken without the stage store.

    Attributes:
        config: its configuration.
        stages: seconds of translation and propagation, over all clips.
        rest: seconds of everything else, without loading the model.
        size: bytes of its folder.
    """

    config: Tree
    stages: Mapping[str, float]
    rest: float
    size: int


@dataclass(frozen=True)
class Todo:
    """A job that is to run.

    Attributes:
        config: its configuration.
        clips: how many it has.
        stored: of how many the translated key frames, and the videos, are in the stage store; None
            where that depends on weights that no run has loaded yet.
    """

    config: Tree
    clips: int
    stored: Mapping[str, int] | None


def plan(sweep: Sweep) -> str:
    """The plan as text. Nothing is loaded, made or changed.

    A complete job is left as it is by a sweep, after its weights have been compared too; a
    command of a single job makes it again, from what is in the stage store.
    """
    places = [place(tree, sweep.name) for tree in sweep.jobs]
    look = _Look()
    for tree in sweep.jobs:
        look.check(tree)
    identities = [Identity.of(tree) for tree in sweep.jobs]
    complete = [own.finished(folder) for own, folder in zip(identities, places, strict=True)]
    width = max(len(str(folder)) for folder in places)
    lines = [
        f"{number:4d}  {str(folder).ljust(width)}  {_state(folder, done)}"
        for number, (folder, done) in enumerate(zip(places, complete, strict=True), start=1)
    ]
    alone = len(places) == 1
    todo = [
        look.at(tree, own)
        for tree, own, done in zip(sweep.jobs, identities, complete, strict=True)
        if alone or not done
    ]
    count = f"{len(places)} job{'s' * (not alone)}, {sum(complete)} complete, {len(todo)} to run"
    return "\n".join([*lines, count, *_shared(todo), *_costs(todo)]) + "\n"


def _state(folder: Path, complete: bool) -> str:
    if complete:
        return "complete"
    if read(folder) is not None:
        return "complete, but damaged or of other code, inputs or libraries"
    return "begun" if (folder / CONFIG).is_file() else "new"


class _Look:
    """Looks for the stages of jobs in the stage store; clips that jobs share are opened once."""

    def __init__(self) -> None:
        self._clips: dict[str, Sequence[Clip]] = {}
        self._models: dict[str, Loading] = {}

    def check(self, tree: Tree) -> None:
        """Refuse inputs that a run would refuse, before their content is read."""
        job = Job.of(tree)
        for clip in self._opened(job):
            job.parts.check(clip, job.model.words(), job.model.prompt_weights)

    def _opened(self, job: Job) -> Sequence[Clip]:
        asked = repr((job.data, job.prompts))
        if asked not in self._clips:
            self._clips[asked] = job.clips()
        return self._clips[asked]

    def at(self, tree: Tree, identity: Identity) -> Todo:
        job = Job.of(tree)
        clips = self._opened(job)
        shared = Cache(job.store) if job.store else None
        model = repr((job.model, job.parts.names(), job.store))
        loading = self._models.setdefault(model, Loading(job.model, job.parts.names(), shared))
        sets = {asked.loras for clip in clips for asked in clip.ranges}
        if shared is None or not all(loading.adapted(loras).known() for loras in {*sets, ()}):
            return Todo(tree, len(clips), None if shared else {})
        stages = [stages_of(job, tree, identity, clip, loading) for clip in clips]
        found = {
            "keys": sum(
                all(shared.has("keys", part.keys) for part in each.parts) for each in stages
            ),
            "video": sum(shared.has("video", each.video) for each in stages),
        }
        return Todo(tree, len(clips), found)


def _shared(todo: Sequence[Todo]) -> list[str]:
    """What of the work is in the stage store already."""
    known = [job for job in todo if job.stored is not None]
    if not todo:
        return []
    if not known:
        return ["stages unknown: no run has loaded these weights yet"]
    clips = sum(job.clips for job in known)
    keys, videos = (sum(job.stored.get(n, 0) for job in known if job.stored) for n in STAGES)
    return [f"in the store: key frames of {keys} and videos of {videos} of {clips} clips"]


def _costs(todo: Sequence[Todo]) -> list[str]:
    """Time and disk, from finished runs on the same clips with the same model."""
    if not todo:
        return []
    known = _spent(OUTPUTS)
    near = [(job, [run for run in known if _alike(run.config, job.config)]) for job in todo]
    sure = [(job, runs) for job, runs in near if runs]
    free = f"{shutil.disk_usage('.').free / 1e9:.1f} GB free"
    if not sure:
        return [f"time unknown: no finished run on the same clips with this model; {free}"]
    seconds = sum(sum(_left(job, run) for run in runs) / len(runs) for job, runs in sure)
    size = sum(sum(run.size for run in runs) / len(runs) for _, runs in sure)
    scale = len(todo) / len(sure)
    based = len({id(run) for _, runs in sure for run in runs})
    return [
        f"about {_time(seconds * scale)} and {size * scale / 1e6:.1f} MB on this machine, "
        f"judged by {based} finished run{'s' * (based != 1)}; {free}"
    ]


def _left(job: Todo, run: Spent) -> float:
    """Seconds that a job takes if it is like a run, less what is in the stage store."""
    stored = job.stored or {}
    keys, videos = (stored.get(name, 0) / job.clips for name in STAGES)
    translate, propagate = (run.stages.get(name, 0.0) for name in ("translate", "propagate"))
    return translate * (1 - max(keys, videos)) + propagate * (1 - videos) + run.rest


def _spent(outputs: Path) -> list[Spent]:
    found = []
    for folder in children(outputs):
        facts = read(folder)
        if facts is not None:
            with suppress(InputError, FileNotFoundError):  # it may be made again at this moment
                found.append(_of(folder, facts, read_config(folder / CONFIG)))
    return found


def _of(folder: Path, facts: Mapping[str, Any], config: Tree) -> Spent:
    stages = {
        name: sum(clip.get("seconds", {}).get(name, 0.0) for clip in facts["clips"])
        for name in ("translate", "propagate")
    }
    apart = ("load", "translate", "propagate")
    rest = sum(spent for stage, spent in facts["seconds"].items() if stage not in apart)
    size = sum(file.stat().st_size for file in files_below(folder))
    return Spent(config, stages, rest, size)


def _alike(one: Tree, other: Tree) -> bool:
    return all(one.get(key) == other.get(key) for key in _ALIKE)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
