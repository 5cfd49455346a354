"""The shots and segments of one clip, given to the processes of a run's devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from rerender.contracts import SegmentWorkers, Workers
from rerender.jobs.device_messages import FILL, SHOT
from rerender.jobs.device_pool import DevicePool, DeviceTask
from rerender.scene import Watch
from rerender.store.cache import Cache, key
from rerender.store.key_frames import ShotImages
from rerender.store.stage_keys import Stages
from rerender.video import Segment


@dataclass(frozen=True)
class ClipSegments(SegmentWorkers):
    """The processes of a command for the segments of one of its clips.

    Attributes:
        pool: all processes.
        number: of the clip in the job.
        credit: told of seconds of computing by stage.
        ranged: number of the range of the clip that this is for; None for the whole.
    """

    pool: DevicePool
    number: int
    credit: Callable[[str, float], None]
    ranged: int | None = None

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.pool.devices)

    def fill(self, segment: Segment) -> Future[list[Tensor]]:
        self.settle()
        keys = [each for each in (segment.left, segment.right) if each is not None]
        asked = {
            **self._asked(FILL, "propagate"),
            "span": [segment.start, segment.stop],
            "keys": [None if k is None else k.index for k in (segment.left, segment.right)],
        }
        said = f"frames {segment.start} to {segment.stop - 1}"
        return self.pool.give(DeviceTask(asked, said, [key.image for key in keys])).frames

    def settle(self) -> None:
        """Credit what the parts that have ended have cost."""
        for stage, seconds in self.pool.take_spent().items():
            self.credit(stage, seconds)

    def _asked(self, part: str, stage: str) -> dict[str, Any]:
        return {"part": part, "stage": stage, "clip": self.number, "range": self.ranged}


@dataclass(frozen=True, kw_only=True)
class ClipWorkers(ClipSegments, Workers):
    """The processes of a run for one of its clips.

    Attributes:
        stages: the keys of its stages.
        cache: the stage store.
    """

    stages: Stages
    cache: Cache

    def part(self, number: int) -> ClipWorkers:
        return replace(self, stages=self.stages.parts[number], ranged=number)

    def translate(
        self, shots: Sequence[Sequence[int]], finished: int, watch: Watch
    ) -> Iterator[Tensor]:
        wanted: list[tuple[Sequence[int], DeviceTask, ShotImages]] = []
        for number, shot in enumerate(shots):
            known = min(finished, len(shot))
            finished -= known
            if known < len(shot):
                name = key(keys=self.stages.keys, shots=[list(s) for s in shots], shot=number)
                part = self.pool.give(self._shot(shots, number, name))
                wanted.append((shot[known:], part, ShotImages(self.cache, name)))
        told = Told([part for _, part, _ in wanted], watch)
        for rest, part, images in wanted:
            for index in rest:
                self._wait(part, index, told)
                yield images.read(index)
        self.settle()
        for _, _, images in wanted:
            images.discard()

    def _shot(self, shots: Sequence[Sequence[int]], number: int, name: str) -> DeviceTask:
        plain = [[int(index) for index in shot] for shot in shots]
        asked = {**self._asked(SHOT, "translate"), "shots": plain, "shot": number, "key": name}
        first, last = plain[number][0], plain[number][-1]
        return DeviceTask(asked, f"the shot of frames {first} to {last}")

    def _wait(self, part: DeviceTask, index: int, told: Told) -> None:
        """Wait until a key frame is finished, and tell how far all shots are."""
        while True:
            with self.pool.changed:
                while index not in part.made and part.error is None and not told.news():
                    self.pool.changed.wait()
                finished, error = index in part.made, part.error
            if told.news():
                self.settle()
                told.tell()
            if finished:
                return
            if error is not None:
                raise error


class Told:
    """Tells how far the shots of a clip are, each time that there is news.

    Args:
        parts: the shots.
        watch: who is told.
    """

    def __init__(self, parts: Sequence[DeviceTask], watch: Watch) -> None:
        self._parts, self._watch = parts, watch
        self._last = (0, 0)

    def news(self) -> bool:
        """Whether more is done than was told."""
        return self.done()[:2] != self._last

    def tell(self) -> None:
        """Tell it."""
        done, total, note = self.done()
        self._last = done, total
        self._watch.advance("translate", done, total, note)

    def done(self) -> tuple[int, int, str]:
        """Evaluations that are done, of how many, and a note. What is not known of shots that have
        not begun is as much as of the others, by their key frames."""
        known = [part for part in self._parts if part.progress[1]]
        if not known:
            return 0, 0, ""
        done = sum(part.progress[0] for part in known)
        total = sum(part.progress[1] for part in known)
        begun, keys = (
            sum(len(part.asked["shots"][part.asked["shot"]]) for part in some)
            for some in (known, self._parts)
        )
        note = next((part.progress[2] for part in known if part.progress[0] < part.progress[1]), "")
        return done, round(total * keys / begun), note
