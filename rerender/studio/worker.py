"""The warm process of the studio: it has imported everything and loaded the model, and forks a
process for each run. ``python -m rerender.studio.worker SOCKET [KEY=VALUE …]``.

A run begins in a copy of a process in which nothing has run yet, so no run sees what another has
left, and each is ended alone. A GPU cannot be shared over a fork: there the model is loaded by
whoever computes with it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from rerender.errors import RerenderError
from rerender.exits import Parser, command, listening

LONGEST = 2**20  # bytes of a message
READY, STARTED, RUN, PREVIEW = "ready", "started", "run", "preview"


@dataclass(frozen=True)
class Forked:
    """What a process that was forked is to do.

    Attributes:
        task: RUN or PREVIEW.
        arguments: of the run command.
        channel: to whom previews are told.
    """

    task: str
    arguments: Sequence[str] = ()
    channel: Connection | None = None


def fork_on_demand(channel: Connection) -> Forked | None:
    """Fork a process for each message until the other end is closed.

    Args:
        channel: of the studio. A message is ``{"task", "arguments"}``, followed by one byte that
            carries file descriptors: of a run its lock and its log, of a preview its socket.

    Returns:
        In a forked process what it is to do; None in this one, when nobody asks any more.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the studio watches
    carrier = socket.socket(fileno=os.dup(channel.fileno()))
    channel.send_bytes(json.dumps({READY: os.getpid()}).encode())
    while True:
        try:
            asked = json.loads(channel.recv_bytes(LONGEST))
            _, handed, _, _ = socket.recv_fds(carrier, 1, 2)
        except (EOFError, OSError):
            return None
        child = os.fork()
        if child:
            with suppress(OSError):  # a group of its own, ended with all that it starts
                os.setpgid(child, child)
            for each in handed:  # a lock is held by whoever has it open
                os.close(each)
            channel.send_bytes(json.dumps({STARTED: child}).encode())
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        carrier.close()
        channel.close()
        if asked["task"] == PREVIEW:
            return Forked(PREVIEW, channel=Connection(handed[0]))
        with suppress(OSError):
            os.setpgid(0, 0)
        _, output = handed
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(output)
        return Forked(RUN, tuple(asked["arguments"]))


def loaded(told: Sequence[str]) -> Callable[[], None]:
    """Import what a run needs and load the model of every run, where a fork may take it along.

    Args:
        told: settings of every run.

    Returns:
        What a fork does first.
    """
    import torch

    from rerender.config.compose import Composer, literal
    from rerender.config.job import Job
    from rerender.jobs import run_job  # noqa: F401 - imports all that a run needs
    from rerender.store.checkpoint import Loading, forget
    from rerender.store.stage_keys import device_of

    # A pool of threads does not live on in a fork: this process computes in one, each fork in as
    # many as the command.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    said = _Said()
    try:
        with listening(said):
            lines = literal([*told, "data=video", "data.path=clip.mp4", "tracker=none"])
            job = Job.of(Composer(lines).sweep().jobs[0])
            if device_of(job.model) == "cpu":
                job.model.check(job.parts.names())
                Loading(job.model, job.parts.names(), None).model()
    except RerenderError:
        forget()  # the run itself says what is wrong
    if said.any:  # and what is to be said of the model
        forget()
    return lambda: torch.set_num_threads(threads)


class _Said(logging.Handler):
    any = False

    def emit(self, record: logging.LogRecord) -> None:
        self.any |= record.levelno >= logging.WARNING


def serve(
    channel: Connection,
    load: Callable[[], Callable[[], None]],
    run: Callable[[Sequence[str]], int],
    preview: Callable[[Connection], None],
) -> int:
    """Load, and fork for whatever is asked; returns the exit code of this process, whichever it is.

    Args:
        channel: as of `fork_on_demand`.
        load: imports and loads; returns what a fork does first.
        run: does a run, in a process of its own.
        preview: makes previews until nobody asks any more, in a process of its own.
    """
    begin = load()
    gc.freeze()  # pages that no collection touches stay shared
    forked, code = fork_on_demand(channel), 0
    if forked is not None:
        begin()
        if forked.channel is not None:
            preview(forked.channel)
        else:
            code = run(forked.arguments)
    gc.unfreeze()  # libraries complain of what is left at the end
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: the file descriptor of the studio's socket, settings of every run."""
    asked: list[Namespace] = []
    code = command(lambda given: asked.append(parser().parse_args(given)), arguments)
    if code or not asked:  # refused, or --help
        return code
    # Not inside of `command`: each run is a command of its own.
    from rerender.run import main as run
    from rerender.studio.preview import serve_previews

    channel, told = Connection(asked[0].socket), asked[0].settings
    return serve(channel, lambda: loaded(told), run, serve_previews)


def parser() -> Parser:
    """The command line."""
    result = Parser(prog="python -m rerender.studio.worker", description="Started by the studio.")
    result.add_argument("socket", type=int, help="file descriptor of the studio's socket")
    result.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of every run")
    return result


if __name__ == "__main__":
    # Asking the driver whether there is a GPU would make it useless in a fork; NVML does not.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    sys.exit(main())
