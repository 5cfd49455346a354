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
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from rerender.errors import ResourceError
from rerender.jobs.device_messages import FILL, SHOT, raised, receive, send
from rerender.store.cache import Cache

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

    Attributes:
        spent: seconds of computing by stage, since `take_spent`.
        peak: the most memory that one of them has held, in MiB; None where unknown.
    """

    def __init__(self, devices: Sequence[str], setup: Mapping[str, Any]) -> None:
        self.devices, self.setup = tuple(devices), setup
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


def setup_of(
    tree: Mapping[str, Any],
    inputs: Mapping[str, str],
    multiple: int,
    cache: Cache | None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Mapping[str, Any]:
    """What the processes of a command are told first.

    Args:
        tree: its resolved configuration.
        inputs: digests of the files that it names, by its keys.
        multiple: sides of images are multiples of this.
        cache: the stage store; None for a command that has none, and translates nothing.
        sizes: those (height, width) at which clips are processed and shown; None where ``data``
            says them.
    """
    threads = torch.get_num_threads()  # others add up parts of sums in another order
    root = None if cache is None else str(cache.root.absolute())
    told = {"tree": tree, "inputs": inputs, "multiple": multiple, "store": root, "threads": threads}
    return {**told, "sizes": sizes}
