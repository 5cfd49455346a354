"""Previews of what the page asks for: the first frames of the stretch, small and in few steps, by
the same functions as a run. They are made in a process of their own, one at a time; a newer one
ends the one before it at its next network evaluation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

from torch import Tensor

from rerender.config.compatibility import check_model
from rerender.config.compose import Composer, literal
from rerender.config.device import check_devices
from rerender.config.job import Job
from rerender.exits import failure, listening
from rerender.fitting import fit_clip
from rerender.pipeline import render
from rerender.scene import Watch
from rerender.store.checkpoint import Loading
from rerender.studio.frames import jpeg

LONGEST = 2**20  # bytes of a request


class _SupersededError(Exception):
    """There is a newer request."""


class _Listening(Watch):
    def __init__(self, channel: Connection) -> None:
        self._channel = channel

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        if self._channel.poll():  # also when the other end is closed
            raise _SupersededError


def serve_previews(channel: Connection) -> None:
    """Answer requests until the other end is closed.

    Args:
        channel: of the studio. A request is ``{"number", "arguments", "values"}``, or ``{}``, which
            only ends the one before it. An answer is a line of JSON, ``{"number", "frame"}``
            followed by the frame as JPEG, or ``{"number", "end"}``: "", or the one line of an
            error.
    """
    watch = _Listening(channel)
    # What a run would warn of, it warns of.
    with listening(logging.NullHandler()), suppress(EOFError, OSError):
        while True:
            asked = json.loads(channel.recv_bytes(LONGEST))
            while channel.poll():
                asked = json.loads(channel.recv_bytes(LONGEST))
            if asked:
                _answer(channel, asked, watch)


def _answer(channel: Connection, asked: Mapping[str, Any], watch: Watch) -> None:
    problem, number = "", asked["number"]
    try:
        for index, image in enumerate(frames(asked["arguments"], asked["values"], watch)):
            _say(channel, {"number": number, "frame": index}, jpeg(image))
            watch.advance("preview", index + 1, 0)
    except _SupersededError:
        problem = "stopped"
    except Exception as error:
        problem = failure(error).message
    _say(channel, {"number": number, "end": problem})


def frames(arguments: Sequence[str], values: Mapping[str, Any], watch: Watch) -> Iterator[Tensor]:
    """The frames of a preview, one after the other.

    Args:
        arguments: of the run command.
        values: of keys, which take the place of what is composed; others need no composition.
        watch: told of every network evaluation.

    Yields:
        Images ``[3,H,W]`` in 0..1.

    Raises:
        RerenderError: as the run command.
    """
    tree = dict(_composed(tuple(arguments)))
    for name, value in values.items():
        group, dot, key = name.partition(".")
        tree[group] = {**tree[group], key: value} if dot else value
        if name in ("prompt", "negative_prompt"):  # conf/data asks for the same
            tree["data"] = {**tree["data"], name: value}
    job = Job.of(tree)
    check_devices(job)
    job.model.check(job.parts.names())
    model = Loading(job.model, job.parts.names(), None).model()
    clips = [
        fit_clip(clip, job.data.size, model.size_multiple, job.data.output == "source")
        for clip in job.clips()
    ]
    check_model(job.parts, job.model, clips)
    for clip in clips:
        job.parts.check(clip, job.model.words(), job.model.prompt_weights)
        yield from render(clip, model, job.parts, job.seed, watch)


@lru_cache(32)
def _composed(arguments: tuple[str, ...]) -> Mapping[str, Any]:
    tree: Mapping[str, Any] = Composer(literal([*arguments, "prompt=a preview"])).sweep().jobs[0]
    return tree


def _say(channel: Connection, head: Mapping[str, Any], data: bytes = b"") -> None:
    channel.send_bytes(json.dumps(head).encode() + b"\n" + data)
