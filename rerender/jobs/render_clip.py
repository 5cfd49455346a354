"""The finished video of one clip: from the stage store, or made and kept there.

Both halves of the method are stages of their own. What a run that was stopped has finished is kept
too: its key frames, and the frames up to the last of them as the encoder took them. The same
command goes on from there, to the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerender import files
from rerender.codec import Encoded, Planes, encode_planes, planes
from rerender.config.parts import Parts
from rerender.contracts import Model
from rerender.jobs.record import Record
from rerender.peak_memory import begin, peak
from rerender.pipeline import filled, translated
from rerender.run_folder import VIDEO
from rerender.scene import Translation
from rerender.store.cache import Cache, Entry, Work
from rerender.store.key_frames import StoredKeyFrames, replayed
from rerender.store.stage_keys import Stages
from rerender.video import Clip

KEYS, STAGE = "keys", "video"  # names of the two stages


@dataclass(frozen=True)
class Take:
    """What a film is made of.

    Attributes:
        clip: the clip as it is processed.
        parts: the method.
        seed: of all noise.
        model: loads the model when it is needed.
        stages: the keys of its stages.
        cache: the stage store.
        record: shows progress and keeps pictures.
    """

    clip: Clip
    parts: Parts
    seed: int
    model: Callable[[], Model]
    stages: Stages
    cache: Cache
    record: Record


@dataclass(frozen=True)
class Film:
    """A finished video.

    Attributes:
        path: its file in the run folder.
        encoded: how it was written.
        seconds: what translation and propagation took when they were made.
        peak: the most memory held meanwhile, in MiB; None where unknown.
    """

    path: Path
    encoded: Encoded
    seconds: Mapping[str, float]
    peak: float | None = None


def film(take: Take, path: Path) -> Film:
    """The finished video of a clip. Pictures of its key frames are shown wherever it comes from.

    Args:
        take: what it is made of.
        path: where it is copied to from the stage store.

    Raises:
        RerenderError: whatever stops it.
    """
    entry, made = take.cache.find(STAGE, take.stages.video), False
    if entry is None:
        with take.cache.making(STAGE, take.stages.video) as work:
            made = work.entry is None
            entry = work.entry or _made(take, work)
    files.copy(entry.folder / VIDEO, path)  # the entry is leased while it is held here
    if not made and take.record.wants("keys"):
        deque(_translations(take), maxlen=0)
    facts = entry.facts
    return Film(path, _encoded(facts), facts["seconds"], facts.get("peak"))


def _encoded(facts: Mapping[str, Any]) -> Encoded:
    frames, (height, width), (below, right), audio = facts["encoded"]
    return Encoded(frames, (height, width), (below, right), audio)


def _made(take: Take, work: Work) -> Entry:
    begin()
    spent = _Clock(take, ("propagate", "encode"), work)
    with work.writing(VIDEO) as file:
        encoded = encode_planes(_pictures(take, work, spent), take.clip.video, file)
    take.record.progress.count("encode")
    keys = take.cache.find(KEYS, take.stages.keys)
    seconds = {"translate": keys.facts["seconds"] if keys else 0.0, "propagate": spent()}
    peaks = [peak(), keys.facts.get("peak") if keys else None]
    most = max((each for each in peaks if each is not None), default=None)
    facts = {"encoded": astuple(encoded), "seconds": seconds, "peak": most}
    return work.finish(facts, (VIDEO,))


def _pictures(take: Take, work: Work, spent: _Clock) -> Iterator[Planes]:
    """All frames as the encoder takes them: first those that an earlier attempt has kept."""
    kept, first = list(work.facts.get("kept", ())), int(work.facts.get("frames", 0))
    for name, *shape in kept:
        yield from np.frombuffer(work.read(name), np.uint8).reshape(shape)
    ends: set[int] = set()
    frames = filled(take.clip, _noted(_translations(take), ends), take.parts, take.record, first)
    held: list[Planes] = []
    for index, picture in enumerate(planes(frames, take.clip.video, first), first):
        yield picture
        if not take.parts.smooth.framewise:
            continue  # the filter would have to begin again before the frame it goes on with
        held.append(picture)
        if index in ends:
            name, block = f"frames-{index:06d}.yuv", np.stack(held)
            work.put(name, block.tobytes())
            kept.append([name, *block.shape])
            work.commit({"kept": kept, "frames": index + 1, "seconds": spent()})
            held.clear()


def _noted(translations: Iterable[Translation], ends: set[int]) -> Iterator[Translation]:
    """The same; their numbers are where frames can be gone on from."""
    for translation in translations:
        ends.add(translation.key.index)
        yield translation


def _translations(take: Take) -> Iterator[Translation]:
    """The key frames: those of the stage store, or made and kept there."""
    video, entry = take.clip.video, take.cache.find(KEYS, take.stages.keys)
    if entry is None:
        with take.cache.making(KEYS, take.stages.keys) as work:
            if work.entry is None:
                yield from _translated(take, work)
                return
            entry = work.entry
    yield from replayed(entry, video, take.record)


def _translated(take: Take, work: Work) -> Iterator[Translation]:
    clip, parts = take.clip, take.parts
    shots = parts.keyframes.pick(clip.video)
    storage = parts.sampling.storage()
    spent = _Clock(take, ("translate",), work)
    model = take.model()
    take.record.progress.count("load")
    notes = StoredKeyFrames(work, clip.video, shots, storage, spent, take.record)
    yield from translated(clip, shots, model, parts, take.seed, take.record, notes)
    notes.close()


class _Clock:
    """Seconds that a clip's stages have taken, earlier attempts included."""

    def __init__(self, take: Take, stages: Sequence[str], work: Work) -> None:
        self._progress, self._stages = take.record.progress, stages
        self._before = float(work.facts.get("seconds", 0.0)) - self._now()

    def __call__(self) -> float:
        return round(self._before + self._now(), 3)

    def _now(self) -> float:
        return sum(self._progress.seconds.get(stage, 0.0) for stage in self._stages)
