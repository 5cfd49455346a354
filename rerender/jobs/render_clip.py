"""The finished video of one clip: from the stage store, or rendered, encoded and kept there.

Both halves of the method are stages of their own. What a run that was stopped has finished is kept
too: its key frames, and the frames up to the last of them as the encoder took them. The same
command goes on from there, to the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerender import files
from rerender.codec import Encoded, Encoder, Format, Planes, planes
from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.jobs.clip_workers import ClipWorkers
from rerender.jobs.master import MasterFrames, delivered
from rerender.jobs.record import Record
from rerender.peak_memory import begin, peak
from rerender.pipeline import render, translate_key_frames
from rerender.propagate.ranges import RangeWatch
from rerender.run_folder import VIDEO
from rerender.scene import Watch
from rerender.store.cache import Cache, Entry, Work
from rerender.store.key_frames import KEYS, FinishedKeyFrames, StoredKeyFrames
from rerender.store.stage_keys import Stages
from rerender.translation.generations import generations
from rerender.translation.references import ResumePoint
from rerender.video import Clip

STAGE = "video"  # name of the second stage


@dataclass(frozen=True)
class ClipTask:
    """One clip of a job and all that its video is made of.

    Attributes:
        clip: the clip as it is processed.
        folder: where its files go.
        parts: the method.
        seed: of all noise.
        load: loads the model when it is needed; told the LoRAs of a range where it has some.
        stages: the keys of its stages.
        cache: the stage store.
        record: shows progress and keeps pictures.
        form: in which the result is written besides mp4; None in no other.
        workers: processes of other devices that do the work; None does it here.
    """

    clip: Clip
    folder: Path
    parts: Parts
    seed: int
    load: Callable[..., Model]
    stages: Stages
    cache: Cache
    record: Record
    form: Format | None = None
    workers: ClipWorkers | None = None


@dataclass(frozen=True)
class RenderedClip:
    """A finished video.

    Attributes:
        path: its file in the run folder.
        encoded: how it was written.
        seconds: of computing, for translation and propagation, when they were made.
        peak: the most memory held meanwhile, in MiB; None where unknown.
        master: the files of the result in the format besides mp4, its sound last.
        sound: what became of the sound there, as `Encoded` says it.
        generations: key frame and its VAE generation of each; () where unknown, or none are made.
    """

    path: Path
    encoded: Encoded
    seconds: Mapping[str, float]
    peak: float | None = None
    master: tuple[Path, ...] = ()
    sound: str = "none"
    generations: Sequence[Sequence[float]] = ()


def render_clip(task: ClipTask) -> RenderedClip:
    """The finished video of a clip. Pictures of its key frames are shown wherever it comes from.

    Raises:
        RerenderError: whatever stops it.
    """
    clip, cache, record = task.clip, task.cache, task.record
    entry, rendered = cache.find(STAGE, task.stages.video), False
    if entry is None:
        with cache.making(STAGE, task.stages.video) as work:
            if work.entry is None:
                rendered = True
                begin()
                with key_frames(task) as resume, work.writing(VIDEO) as file:
                    frames = StoredFrames(task, work, resume)
                    master = MasterFrames(task.form, clip.output, work)
                    with Encoder(clip.output, file) as encoder:
                        for picture in frames.earlier():
                            encoder.write(picture)
                        images = render(
                            clip, task.load, task.parts, task.seed, record, resume, task.workers
                        )
                        for index, image in enumerate(images, resume.first):
                            picture = planes(image, clip.output, index)
                            encoder.write(picture)
                            master.add(index, image)
                            frames.add(index, picture)
                if task.workers is not None:
                    task.workers.settle()
                facts = master.finish()
                record.progress.count("encode")
                facts |= _facts(task, encoder.encoded, frames.seconds())
                work.finish(facts, (VIDEO, *facts.get("master", ())))
            entry = work.entry
    assert entry is not None
    path = task.folder / VIDEO
    files.copy(entry.folder / VIDEO, path)  # the entry is leased while it is held here
    if not rendered and record.wants("keys"):
        with key_frames(task) as resume:
            keys = translate_key_frames(
                clip, task.load, task.parts, task.seed, record, resume, task.workers
            )
            deque(keys, maxlen=0)
    made = delivered(entry, task.folder)
    return replace(_rendered(path, entry), master=made, sound=entry.facts.get("sound", "none"))


def _facts(task: ClipTask, encoded: Encoded, propagating: float) -> dict[str, Any]:
    """What the stage store keeps beside a video."""
    found = [task.cache.find(KEYS, part.keys) for part in task.stages.parts]
    keys = [entry.facts for entry in found if entry]
    translating = round(sum(facts["seconds"] for facts in keys), 3)
    seconds = {"translate": translating, "propagate": propagating}
    elsewhere = task.workers.pool.peak if task.workers is not None else None
    peaks = [peak(), elsewhere, *(facts.get("peak") for facts in keys)]
    most = max((each for each in peaks if each is not None), default=None)
    facts = {"encoded": astuple(encoded), "seconds": seconds, "peak": most}
    return facts | {"generations": _generations(task)}


def _generations(task: ClipTask) -> list[list[float]]:
    """Key frame and VAE generation of each, in the whole clip's frame numbers."""
    if task.parts.keyframes.made_elsewhere:
        return []
    offset, found = task.clip.offset, []
    for part, asked in zip(task.stages.parts, task.clip.ranges or (None,), strict=True):
        if entry := task.cache.find(KEYS, part.keys):
            parts = task.parts.with_strength(asked.strength if asked else None)
            made = generations(part.clip, entry.facts["shots"], parts)
            found += [[i + part.clip.offset - offset, round(g, 4)] for i, g in made.items()]
    return found


def _rendered(path: Path, entry: Entry) -> RenderedClip:
    frames, (height, width), (below, right), audio = entry.facts["encoded"]
    encoded = Encoded(frames, (height, width), (below, right), audio)
    facts = entry.facts
    seconds, generation = facts["seconds"], facts.get("generations", ())
    return RenderedClip(path, encoded, seconds, facts.get("peak"), generations=generation)


@contextmanager
def key_frames(task: ClipTask) -> Iterator[ResumePoint]:
    """The key frames that the stage store has, and where others are kept. While some are missing,
    no other process makes them."""
    with ExitStack() as held:
        if task.clip.ranges:
            yield RangesKeyFrames(task, held)
        else:
            yield _key_frames(task, task.record, held.enter_context(ExitStack()))


def _key_frames(task: ClipTask, watch: Watch, held: ExitStack) -> ResumePoint:
    """Those of a clip, or of one range of it."""
    video = task.clip.video
    entry = task.cache.find(KEYS, task.stages.keys)
    if entry is None:
        work = held.enter_context(task.cache.making(KEYS, task.stages.keys))
        entry = work.entry
    if entry is None:
        spent, storage = Clock(task, ("translate",), work), task.parts.sampling.storage()
        return StoredKeyFrames(work, video, storage, spent, watch, held.close)
    held.close()
    return FinishedKeyFrames(entry, video, watch)


class RangesKeyFrames(ResumePoint):
    """The key frames of a clip whose prompt changes over time: a stage for each range.

    Args:
        task: the clip.
        held: holds the stages that are made.
    """

    def __init__(self, task: ClipTask, held: ExitStack) -> None:
        self._task, self._held = task, held
        self._parts: dict[int, ResumePoint] = {}

    def part(self, number: int) -> ResumePoint:
        task, clip = self._task, self._task.clip
        if number not in self._parts:
            stages = task.stages.parts[number]
            part = replace(task, clip=stages.clip, stages=stages)
            span, asked = clip.spans[number], clip.ranges[number]
            watch = RangeWatch(task.record, span, asked, len(clip.video))
            held = self._held.enter_context(ExitStack())
            self._parts[number] = _key_frames(part, watch, held)
        return self._parts[number]

    def stands_alone(self, index: int) -> bool:
        """Whether a frame is a key frame after which one range alone goes on."""
        spans = self._task.clip.spans
        seen = [number for number, span in enumerate(spans) if index in span]
        after = [number for number, span in enumerate(spans) if index + 1 in span]
        if len(seen) != 1 or len(after) > 1:
            return False
        shots = self.part(seen[0]).shots or ()
        return any(index - spans[seen[0]].start in shot for shot in shots)


class StoredFrames:
    """The first frames of a clip as the encoder took them, kept up to a key frame.

    Args:
        task: the clip.
        work: its video under way.
        resume: told which frame is the first one that is not kept.
    """

    def __init__(self, task: ClipTask, work: Work, resume: ResumePoint) -> None:
        self._work, self._resume = work, resume
        # Another filter would have to begin again before the frame that it goes on with.
        self._framewise = task.parts.smooth.framewise
        self._kept: list[Any] = list(work.facts.get("kept", ()))
        self._held: list[Planes] = []
        self.seconds = Clock(task, ("propagate", "encode"), work)
        resume.first = int(work.facts.get("frames", 0))

    def earlier(self) -> Iterator[Planes]:
        """Those that an earlier attempt has kept."""
        for name, *shape in list(self._kept):
            yield from np.frombuffer(self._work.read(name), np.uint8).reshape(shape)

    def add(self, index: int, picture: Planes) -> None:
        """Keep a frame that has been written."""
        if not self._framewise:
            return
        self._held.append(picture)
        if self._resume.stands_alone(index):
            name, block = f"frames-{index:06d}.yuv", np.stack(self._held)
            self._work.put(name, block.tobytes())
            self._kept.append([name, *block.shape])
            facts = {"kept": self._kept, "frames": index + 1, "seconds": self.seconds()}
            self._work.commit(facts)
            self._held.clear()


class Clock:
    """Seconds of computing that a clip's stages have taken, earlier attempts included."""

    def __init__(self, task: ClipTask, stages: Sequence[str], work: Work) -> None:
        self._progress, self._stages = task.record.progress, stages
        self._before = float(work.facts.get("seconds", 0.0)) - self._now()

    def __call__(self) -> float:
        return round(self._before + self._now(), 3)

    def _now(self) -> float:
        return sum(self._progress.spent.get(stage, 0.0) for stage in self._stages)
