"""One job of a command, in whatever process does it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender.errors import LockedError, RerenderError
from rerender.exits import BUG, Terminated, failure, report, streams, terminable, trace

STATUS = "status.json"
LOST = "its process ended without a word (killed, or out of memory)"
PACE = "RERENDER_PROGRESS"  # variable of the environment: seconds between lines, for programs
STAMP = re.compile(r"\d{8}-\d{6}-\d+")  # when a command began, and its process
KEPT = 7 * 86400.0  # seconds for which what another machine or an engine may still use is left
_COMMAND = ExitStack()  # holds the lock of this command's folder until it ends
_DEVICE = ExitStack()  # holds the lock of this process's device until it ends
_TAKEN: list[str] = []


@dataclass(frozen=True)
class ScheduledJob:
    """One job, as any process that sees the same disk can do it.

    Attributes:
        number: its place in the sweep, from 0.
        tree: its resolved configuration.
        name: what its folder is called where the configuration does not say.
        group: the experiment; "" without one.
        said: what sets it apart, for the terminal.
        ours: where its status goes, absolute.
        place: the working folder of the command.
        keep: leave it alone where it is complete already.
        devices: accelerators of this machine that its processes share; none where the engine
            gives each job its own.
        total: how many jobs the sweep has.
    """

    number: int
    tree: Mapping[str, Any]
    name: str
    group: str
    said: str
    ours: Path
    place: Path
    keep: bool
    devices: tuple[str, ...] = ()
    total: int = 1

    @property
    def label(self) -> str:
        """What its progress begins with; "" where it is alone."""
        return f"job {self.number + 1} of {self.total}" if self.total > 1 else ""

    def status(self) -> dict[str, Any]:
        """What the job left; empty before it began."""
        return read(self.ours / STATUS)

    def lost(self, reason: str) -> None:
        """Write down that the job did not come to its end, if it left no word itself."""
        from rerender import files

        status = self.status()
        if not status.get("ended"):
            failed = {"code": BUG, "message": f"{LOST}: {reason}", "ended": True}
            files.put_json(self.ours / STATUS, {"folder": "", **status, **failed})


def run_in_process(job: ScheduledJob) -> None:
    """Run a job in a process of its own or of a pool; nothing but its status comes back."""
    os.chdir(job.place)
    try:
        with streams(), terminable():
            take_device(job)
            from rerender.jobs.progress import Progress  # loads libraries that look for devices
            from rerender.jobs.run_job import run_job

            with attempt(job) as folder:
                progress = Progress(label=job.label, bars=False)  # others draw beside it
                run_job(job.tree, folder, job.group, keep=job.keep, progress=progress)
    except (Terminated, KeyboardInterrupt):
        return  # its status says so


@contextmanager
def attempt(job: ScheduledJob) -> Iterator[Path]:
    """Run a job here, in the block. A failure of its own is written down, never raised; a signal is
    both.

    Yields:
        Where its results go.
    """
    from rerender.store.run_identity import place

    with status_kept(job.ours, bool(job.tree.get("debug"))) as status:
        if job.number:
            report(f"{job.number + 1}: {job.said}", "job")
        folder = place(job.tree, job.name)
        status["folder"] = str(folder)
        yield folder


@contextmanager
def status_kept(ours: Path, debug: bool) -> Iterator[dict[str, Any]]:
    """Write down that a job begins, and how it ended."""
    from rerender import files

    status: dict[str, Any] = {"code": BUG, "message": LOST, "folder": "", "ended": False}
    files.put_json(ours / STATUS, status)
    try:
        yield status
        status.update(code=0, message="")
    except BaseException as error:
        status["code"], status["message"] = failure(error)
        if not isinstance(error, Exception):
            raise
        report(status["message"])
        trace(error, debug)
    finally:
        if ours.is_dir():  # else the command was killed, and the next has taken its folder away
            files.put_json(ours / STATUS, {**status, "ended": True})


def begin(folder: Path) -> None:
    """Have the folder of this command to itself until `end`, and take away those of commands that
    were killed: they hold prompts.

    Args:
        folder: its name is a `STAMP`; its jobs leave their status below.

    Raises:
        RerenderError: it cannot be made.
    """
    from rerender import files

    if not folder.parent.is_symlink():
        for other in files.children(folder.parent):
            if STAMP.fullmatch(other.name) and other.is_dir() and not other.is_symlink():
                _clean(other)
    _COMMAND.enter_context(files.lock(folder))


def end() -> None:
    """Give the folder of this command back."""
    _COMMAND.close()


def _clean(folder: Path) -> None:
    """Take away the folder of a command that is over, if nobody can need it.

    Its lock is free then. A machine whose locks are not seen here, and jobs that an engine does
    without the command that began them, are given some days.
    """
    from rerender import files

    owner = files.owner(folder)
    foreign = owner != socket.gethostname() or (folder / ".submitit").exists()
    try:
        inside = (folder, *files.children(folder))
        ages = [time.time() - path.stat().st_mtime for path in inside]
        if foreign and min(ages) < KEPT:
            return
        with files.lock(folder):
            for path in files.children(folder):
                if path.name != files.LOCK:
                    files.remove(path)
            files.vacate(folder)
    except (OSError, RerenderError):
        return  # somebody is at it, or it is another user's


def take_device(job: ScheduledJob) -> None:
    """Give this process one of the devices to itself, for as long as it lives."""
    from rerender import files

    while job.devices and not _TAKEN:
        for name in job.devices:
            try:
                folder = job.ours.parent / f"device-{name.replace('/', '-')}"
                _DEVICE.enter_context(files.lock(folder))
            except LockedError:
                continue
            _TAKEN.append(name)
            os.environ["CUDA_VISIBLE_DEVICES"] = name
            return
        time.sleep(0.2)


def read(path: Path) -> dict[str, Any]:
    """A small file of ours; empty where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
