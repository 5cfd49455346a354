"""The studio's end of its warm process (`rerender.studio.worker`): it is kept alive, and asked for
runs and previews."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Protocol

from rerender.jobs.worker import PACE as PACE_VARIABLE
from rerender.studio.worker import LONGEST, PREVIEW, READY, RUN, STARTED

PROGRAM = (sys.executable, "-m", "rerender.run")
WORKER = (sys.executable, "-m", "rerender.studio.worker")
PACE = "0.5"  # seconds between two lines of progress
_START = 300.0  # seconds that importing and loading may take
_FORK = 30.0  # ... and a fork


def environment() -> dict[str, str]:
    """Variables of a run: lines of progress come soon, and at once."""
    return {**os.environ, PACE_VARIABLE: PACE, "PYTHONUNBUFFERED": "1"}


class RunProcess(Protocol):
    """The process of a run, the leader of a group of its own."""

    pid: int

    def wait(self) -> object:
        """Wait until it has ended."""


class RunStarter(Protocol):
    """What starts the processes of runs."""

    def ready(self) -> None:
        """Wait until one can be started at once.

        Raises:
            OSError: none can.
        """

    def run(self, arguments: Sequence[str], held: int, output: int) -> RunProcess:
        """Start one.

        Args:
            arguments: of the run command.
            held: file descriptor of its lock, for as long as it lives.
            output: ... of where its standard output and error go.

        Raises:
            OSError: it cannot be started.
        """

    def close(self) -> None:
        """Start none any more."""


class Spawned:
    """Starts each run as a program of its own, which imports and loads for itself.

    Args:
        program: what is started, before the arguments.
    """

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self._program = tuple(program)

    def ready(self) -> None:
        """Nothing is waited for."""

    def run(self, arguments: Sequence[str], held: int, output: int) -> RunProcess:
        return subprocess.Popen(
            [*self._program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[held],
            env=environment(),
        )

    def close(self) -> None:
        """Nothing is kept."""


class ForkedRun:
    """A run that the warm process has forked; it lives on when that one dies."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # over already
            self._handle = None

    def wait(self) -> None:
        if self._handle is not None:
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            poll.poll()
            os.close(self._handle)
            self._handle = None


class WarmWorker:
    """The warm process; when it has died another one is started in its place.

    Args:
        told: settings of every run.
        program: what is started, before the number of its socket and ``told``.
    """

    def __init__(self, told: Sequence[str], program: Sequence[str] = WORKER) -> None:
        self._told, self._program = tuple(told), tuple(program)
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._warm = self._closed = False

    def begin(self) -> None:
        """Start it, if it does not live; it gets warm while nobody waits."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            if self._closed:
                raise ConnectionError("studio: it has ended")
            self._warm = False
            self._channel, theirs = Pipe()
            self._process = subprocess.Popen(
                [*self._program, str(theirs.fileno()), *self._told],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
                env=environment(),
            )
            theirs.close()

    def ready(self) -> None:
        with self._lock:
            self.begin()
            if not self._warm:
                self._receive(READY, _START)
                self._warm = True

    def run(self, arguments: Sequence[str], held: int, output: int) -> RunProcess:
        return ForkedRun(self._forked(RUN, arguments, (held, output)))

    def preview(self) -> Connection:
        """Start the process that makes previews; returns our end of its socket.

        Raises:
            OSError: as `run`.
        """
        ours, theirs = Pipe()
        try:
            self._forked(PREVIEW, (), (theirs.fileno(),))
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        self._closed = True
        if self._process is not None:
            self._process.kill()  # whoever waits for its answer learns of it
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _forked(self, task: str, arguments: Sequence[str], handed: Sequence[int]) -> int:
        with self._lock:
            self.ready()
            assert self._channel is not None
            asked = json.dumps({"task": task, "arguments": list(arguments)}).encode()
            self._channel.send_bytes(asked)
            with socket.socket(fileno=os.dup(self._channel.fileno())) as carrier:
                socket.send_fds(carrier, [b"\0"], list(handed))
            return self._receive(STARTED, _FORK)

    def _receive(self, what: str, seconds: float) -> int:
        """What the process says next.

        Raises:
            ConnectionError: it has died, or says nothing for so long; another one is begun.
        """
        channel, problem = self._channel, "it says nothing"
        assert channel is not None
        with suppress(EOFError, OSError):
            if channel.poll(seconds):
                problem = "it has ended"
                return int(json.loads(channel.recv_bytes(LONGEST))[what])
        channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
        raise ConnectionError(f"studio: the process that starts runs is lost ({problem})")
