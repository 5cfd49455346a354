"""The process of one device: it translates shots and fills segments of a run's clips, as it is
asked. ``python -m rerender.jobs.device_worker SOCKET``, started by `rerender.jobs.device_pool`.

It ends when the other end of its socket is closed, whatever it does, and so with the run.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from rerender import peak_memory
from rerender.compiled import compile_seconds
from rerender.config.job import Job
from rerender.contracts import FlowEstimator, Model
from rerender.exits import (
    BUG,
    Parser,
    Terminated,
    command,
    failure,
    listening,
    refused,
    streams,
    terminable,
)
from rerender.fitting import FittedVideo, fit_clip
from rerender.jobs.device_messages import SHOT, Message, receive, refusal, send
from rerender.jobs.memory_demand import demand_of
from rerender.jobs.progress import COMPILE
from rerender.propagate import frames
from rerender.scene import Watch
from rerender.store.cache import Cache
from rerender.store.checkpoint import Loading, Loras
from rerender.store.key_frames import KEYS, FinishedKeyFrames, StoredKeyFrames
from rerender.store.network_outputs import kept
from rerender.translate import translate
from rerender.translation.placement import placed_parts
from rerender.translation.references import ResumePoint
from rerender.video import Clip, Frame, Segment


class DeviceWorker:
    """Does what it is asked, on one device.

    Args:
        channel: to whoever asks.
        setup: the run's configuration (``tree``), digests of its ``inputs``, ``multiple`` of image
            sides, stage ``store``, ``threads`` of the processor, ``sizes`` of its clips and the
            ``device`` (see `rerender.jobs.device_pool.setup_of`).
    """

    def __init__(self, channel: Channel, setup: Mapping[str, Any]) -> None:
        job, device = Job.of(setup["tree"]), setup["device"]
        self._channel, self._job = channel, job.on(device)
        self._multiple, self._sizes = setup["multiple"], setup["sizes"]
        self._cache = None if setup["store"] is None else Cache(Path(setup["store"]))
        self._parts = job.parts
        if self._cache is not None:  # else whoever asks computes flow where frames lie
            parts = kept(job.parts, self._cache, setup["inputs"])
            self._parts = placed_parts(parts, device, back=True)
        self._loading = 0.0  # seconds, of what is done now
        self._opened: dict[tuple[int, int | None], tuple[Clip, FlowEstimator]] = {}

    def do(self, asked: Message, tensors: Sequence[Tensor]) -> None:
        """Do one part, and say how it ended."""
        begun, made = peak_memory.compute_seconds(), list[Tensor]()
        compiled, self._loading = compile_seconds(), 0.0
        try:
            if asked["part"] == SHOT:
                self._translate(asked)
            else:
                made = self._fill(asked, list(tensors))
        except Exception as error:
            known = refused(error)
            bug = {"code": BUG, "said": [failure(error).message]}
            self._channel.say(bug if known is None else refusal(known))
            return
        took, compiling = peak_memory.compute_seconds() - begun, compile_seconds() - compiled
        own = max(took - compiling - self._loading, 0.0)
        spent = {asked["stage"]: own, "load": self._loading, COMPILE: compiling}
        self._channel.say({"spent": spent, "peak": peak_memory.peak()}, made)

    def _translate(self, asked: Message) -> None:
        clip, flow = self._open(asked)
        shots, number = asked["shots"], asked["shot"]
        whole = self._clips[asked["clip"]]
        own = None if asked["range"] is None else whole.ranges[asked["range"]]
        parts = replace(self._parts.with_strength(own.strength if own else None), flow=flow)
        load = partial(self._load, own.loras if own else ())
        watch = _Told(self._channel)
        assert self._cache is not None  # who has none asks for segments alone
        with self._cache.making(KEYS, asked["key"]) as work:
            resume: ResumePoint
            if work.entry is not None:
                resume = FinishedKeyFrames(work.entry, clip.video, watch)
            else:
                storage = parts.sampling.storage()
                resume = StoredKeyFrames(work, clip.video, storage, lambda: 0.0, watch)
                resume.begin([shots[number]])
            resume.only = number
            made = translate(clip, shots, load, parts, self._job.seed, watch, resume=resume)
            for translation in made:
                self._channel.say({"made": translation.key.index})

    def _fill(self, asked: Message, images: list[Tensor]) -> list[Tensor]:
        clip, flow = self._open(asked)
        left, right = (None if k is None else Frame(k, images.pop(0)) for k in asked["keys"])
        start, stop = asked["span"]
        segment = Segment(clip.output, start, stop, left, right)
        return list(frames(segment, self._parts.propagation, flow))

    @cached_property
    def _clips(self) -> list[Clip]:
        if self._sizes is not None:
            inner, shown = map(tuple, self._sizes)
            clips = self._job.clips()
            return [replace(c, video=FittedVideo(c.video, inner, shown)) for c in clips]
        size, full = self._job.data.size, self._job.data.output == "source"
        return [fit_clip(clip, size, self._multiple, full) for clip in self._job.clips()]

    def _open(self, asked: Message) -> tuple[Clip, FlowEstimator]:
        """A clip or a range of it, with the flow estimator for it."""
        place = asked["clip"], asked["range"]
        if place not in self._opened:
            clip = self._clips[place[0]]
            clip = clip if place[1] is None else clip.part(place[1])
            self._opened = {place: (clip, self._parts.flow.open(clip))}
        return self._opened[place]

    def _load(self, loras: Loras) -> Model:
        assert self._cache is not None
        begun, names = peak_memory.compute_seconds(), self._job.parts.names()
        checkpoint, demand = self._job.model.adapted(loras), demand_of(self._job, self._clips)
        checkpoint.check(names)
        model = Loading(checkpoint, names, self._cache, demand).model()
        self._loading += peak_memory.compute_seconds() - begun
        return model


class Channel:
    """The socket of a process, which several of its threads may use.

    What is asked is read by a thread of its own. When the other end is closed, the process asks
    itself to end.

    Args:
        connection: the socket.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._asked: queue.SimpleQueue[tuple[Message, list[Tensor]]] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="asked", daemon=True).start()

    def asked(self) -> tuple[Message, list[Tensor]]:
        """What is asked next."""
        return self._asked.get()

    def say(self, message: Message, tensors: Sequence[Tensor] = ()) -> None:
        """Answer."""
        with self._lock, suppress(BrokenPipeError, ConnectionResetError):  # it ends soon
            send(self._connection, message, tensors)

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._asked.put(receive(self._connection))
        os.kill(os.getpid(), signal.SIGTERM)


class _Told(Watch):
    """Hands on how far a shot is; key frames are shown by whoever asked."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        self._channel.say({"progress": [done, total, note]})


class _Log(logging.Handler):
    """Hands on what is warned of."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.say({"log": [record.levelno, record.getMessage()]})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the file descriptor of the run's socket, and serve until nobody asks
    any more."""
    asked: list[Namespace] = []
    code = command(lambda given: asked.append(parser().parse_args(given)), arguments)
    if code or not asked:  # refused, or --help
        return code
    # Not inside of `command`: it is the run that says how things end.
    with streams(), suppress(Terminated), terminable():
        serve(Channel(Connection(asked[0].socket)))
    return 0


def parser() -> Parser:
    """The command line."""
    result = Parser(prog="python -m rerender.jobs.device_worker", description="Started by a run.")
    result.add_argument("socket", type=int, help="file descriptor of its socket")
    return result


def serve(channel: Channel) -> NoReturn:
    """Be told what the run is, and do what is asked until a signal comes."""
    setup, _ = channel.asked()
    torch.set_num_threads(setup["threads"])
    if setup["device"].startswith("cuda"):
        torch.cuda.set_device(setup["device"])
    with listening(_Log(channel)):
        worker = DeviceWorker(channel, setup)
        peak_memory.begin()
        while True:
            worker.do(*channel.asked())


if __name__ == "__main__":
    sys.exit(main())
