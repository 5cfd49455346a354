"""One clip over several devices: a process for each, to which shots and segments are given.

The run's own process picks the key frames, takes what the others make in the order of the video,
filters, encodes and measures. A shot is translated by one process into a stage of its own in the
stage store, so that what it has finished survives a kill; a segment comes back as its frames. Shots
are given out before segments, which are short. A process that dies is started anew, once for what
it was doing, and what it was doing is done again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from rerender.contracts import Workers
from rerender.errors import ResourceError
from rerender.jobs.device_messages import FILL, SHOT, raised, receive, send
from rerender.scene import Watch
from rerender.store.cache import Cache, key
from rerender.store.key_frames import ShotImages
from rerender.store.stage_keys import Stages
from rerender.video import Segment

log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "rerender.jobs.device_worker")
_LEAVE = 15.0  # seconds in which a process that is asked to end does so
_TRIES = 2  # processes that may die over the same part


def started(handle: int) -> subprocess.Popen[bytes]:
    """Start the process of a device, which is given its end of a socket."""
    return subprocess.Popen(
        [*PROGRAM, str(handle)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is this process's to hear
        pass_fds=[handle],
    )


@dataclass
class DeviceTask:
    """A shot or a segment that a process is given.

    Attributes:
        asked: what is to be done.
        said: what it is, in words.
        tensors: what belongs to it.
        frames: of a segment, when they are there.
        made: frame numbers of a shot's key frames that are finished.
        progress: evaluations of a shot: done, of how many, and a note.
        error: what ended it.
        lost: processes that have died over it.
    """

    asked: Mapping[str, Any]
    said: str
    tensors: Sequence[Tensor] = ()
    frames: Future[list[Tensor]] = field(default_factory=Future)
    made: set[int] = field(default_factory=set)
    progress: tuple[int, int, str] = (0, 0, "")
    error: Exception | None = None
    lost: int = 0

    def fail(self, error: Exception) -> None:
        """It does not come to its end."""
        self.error = error
        if not self.frames.done():
            self.frames.set_exception(error)


class DevicePool:
    """The processes of a run, one for each device; each is started when there is something for it
    to do, and ended with the block.

    Args:
        devices: what they compute on.
        setup: what they are told first (see `rerender.jobs.device_worker.DeviceWorker`).
        cache: the stage store.

    Attributes:
        spent: seconds of computing by stage, since `take_spent`.
        peak: the most memory that one of them has held, in MiB; None where unknown.
    """

    def __init__(self, devices: Sequence[str], setup: Mapping[str, Any], cache: Cache) -> None:
        self.devices, self.setup, self.cache = tuple(devices), setup, cache
        self.changed = threading.Condition()
        self.closed = False
        self.peak: float | None = None
        self._spent: dict[str, float] = {}
        self._waiting: dict[str, deque[DeviceTask]] = {SHOT: deque(), FILL: deque()}
        self._attendants: list[Attendant] = []

    def __enter__(self) -> DevicePool:
        return self

    def __exit__(self, *error: object) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        for each in self._attendants:
            each.dismiss()
        for each in self._attendants:
            each.join()

    def give(self, part: DeviceTask) -> DeviceTask:
        """Have something done."""
        with self.changed:
            if not self._attendants:
                self._attendants = [
                    Attendant(self, number, name) for number, name in enumerate(self.devices)
                ]
                for each in self._attendants:
                    each.start()
            self._waiting[part.asked["part"]].append(part)
            self.changed.notify_all()
        return part

    def again(self, part: DeviceTask) -> None:
        """Have it done by another process, before anything else of its kind."""
        with self.changed:
            self._waiting[part.asked["part"]].appendleft(part)
            self.changed.notify_all()

    def next(self) -> DeviceTask | None:
        """Wait for something to do; None when there will be nothing any more."""
        with self.changed:
            while not self.closed:
                for parts in self._waiting.values():
                    if parts:
                        return parts.popleft()
                self.changed.wait()
            return None

    def ended(self, spent: Mapping[str, float], peak: float | None) -> None:
        """Be told what a part has cost: seconds of computing by stage, and memory."""
        with self.changed:
            for stage, seconds in spent.items():
                self._spent[stage] = self._spent.get(stage, 0.0) + seconds
            self.peak = max((p for p in (self.peak, peak) if p is not None), default=None)

    def take_spent(self) -> Mapping[str, float]:
        """Seconds of computing by stage since this was asked last."""
        with self.changed:
            spent, self._spent = self._spent, {}
        return spent


class Attendant(threading.Thread):
    """Talks to the process of one device.

    Args:
        pool: whom it belongs to.
        number: of the device, from 0.
        device: its name.
    """

    def __init__(self, pool: DevicePool, number: int, device: str) -> None:
        super().__init__(name=f"device {number}", daemon=True)
        self._pool, self._device = pool, device
        self._name = device if pool.devices.count(device) == 1 else f"{device} (process {number})"
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        while (part := self._pool.next()) is not None:
            try:
                self._do(part)
            except (EOFError, OSError) as gone:
                self._lost(part, gone)
            except Exception as error:
                part.fail(error)
            with self._pool.changed:
                self._pool.changed.notify_all()
        self._end()

    def dismiss(self) -> None:
        """Have its process end, whatever it does: its end of the socket is closed."""
        with self._lock:
            if self._channel is not None:
                with (
                    suppress(OSError),
                    socket.socket(fileno=os.dup(self._channel.fileno())) as ours,
                ):
                    ours.shutdown(socket.SHUT_RDWR)

    def _do(self, part: DeviceTask) -> None:
        channel = self._begun()
        send(channel, part.asked, part.tensors)
        while True:
            message, tensors = receive(channel)
            with self._pool.changed:
                if "made" in message:
                    part.made.add(message["made"])
                elif "progress" in message:
                    done, total, note = message["progress"]
                    part.progress = done, total, note
                self._pool.changed.notify_all()
            if "log" in message:
                level, said = message["log"]
                log.log(level, "%s", said)
            elif "code" in message:
                part.fail(raised(message))
                return
            elif "spent" in message:
                self._pool.ended(message["spent"], message["peak"])
                part.frames.set_result(tensors)
                return

    def _begun(self) -> Connection:
        """The channel of its process, which is started if there is none."""
        with self._lock:
            if self._pool.closed:
                raise EOFError
            if self._channel is None:
                self._channel, theirs = Pipe()
                try:
                    self._process = started(theirs.fileno())
                finally:
                    theirs.close()
                send(self._channel, {**self._pool.setup, "device": self._device})
            return self._channel

    def _lost(self, part: DeviceTask, gone: Exception) -> None:
        """Its process has died over a part."""
        how = self._end()
        if self._pool.closed:
            part.fail(gone)
            return
        part.lost += 1
        if part.lost < _TRIES:
            log.warning("devices: the process on %s was lost over %s (%s); it is done again",
                        self._name, part.said, how)  # fmt: skip
            self._pool.again(part)
            return
        problem = f"{_TRIES} processes were lost over {part.said}, the last on {self._name} ({how})"
        cure = "lower data.size or sampling.batch_size, or name fewer devices; what is done is kept"
        part.fail(ResourceError("devices", problem, cure))

    def _end(self) -> str:
        """See its process end; how it did, in words."""
        with self._lock:
            channel, process = self._channel, self._process
            self._channel = self._process = None
        if channel is not None:
            channel.close()
        if process is None:
            return "it did not start"
        try:
            code = process.wait(_LEAVE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code >= 0:
            return f"code {code}"
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"


@dataclass(frozen=True)
class ClipWorkers(Workers):
    """The processes of a run for one of its clips.

    Attributes:
        pool: all processes.
        number: of the clip in the job.
        stages: the keys of its stages.
        credit: told of seconds of computing by stage.
        ranged: number of the range of the clip that this is for; None for the whole.
    """

    pool: DevicePool
    number: int
    stages: Stages
    credit: Callable[[str, float], None]
    ranged: int | None = None

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.pool.devices)

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
                wanted.append((shot[known:], part, ShotImages(self.pool.cache, name)))
        told = Told([part for _, part, _ in wanted], watch)
        for rest, part, images in wanted:
            for index in rest:
                self._wait(part, index, told)
                yield images.read(index)
        self.settle()
        for _, _, images in wanted:
            images.discard()

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

    def _shot(self, shots: Sequence[Sequence[int]], number: int, name: str) -> DeviceTask:
        plain = [[int(index) for index in shot] for shot in shots]
        asked = {**self._asked(SHOT, "translate"), "shots": plain, "shot": number, "key": name}
        first, last = plain[number][0], plain[number][-1]
        return DeviceTask(asked, f"the shot of frames {first} to {last}")

    def _asked(self, part: str, stage: str) -> dict[str, Any]:
        return {"part": part, "stage": stage, "clip": self.number, "range": self.ranged}

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

    def settle(self) -> None:
        """Credit what the parts that have ended have cost."""
        for stage, seconds in self.pool.take_spent().items():
            self.credit(stage, seconds)


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


def setup_of(
    tree: Mapping[str, Any], inputs: Mapping[str, str], multiple: int, cache: Cache
) -> Mapping[str, Any]:
    """What the processes of a run are told first.

    Args:
        tree: its resolved configuration.
        inputs: digests of the files that it names, by its keys.
        multiple: sides of images are multiples of this.
        cache: the stage store.
    """
    threads = torch.get_num_threads()  # others add up parts of sums in another order
    root = str(cache.root.absolute())
    return {"tree": tree, "inputs": inputs, "multiple": multiple, "store": root, "threads": threads}
