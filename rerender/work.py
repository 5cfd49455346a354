"""One job of a command, in whatever process does it, and what it leaves behind."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender.errors import LockedError
from rerender.exits import BUG, Terminated, failure, report, terminable

STATUS = "status.json"
LOST = "its process ended without a word (killed, or out of memory)"
_DEVICE = ExitStack()  # holds the lock of this process's device until it ends
_TAKEN: list[str] = []


@dataclass(frozen=True)
class Call:
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

    def status(self) -> dict[str, Any]:
        """What the job left; empty before it began."""
        return read(self.ours / STATUS)

    def lost(self, reason: str) -> None:
        """Write down that the job did not come to its end, if it left no word itself."""
        from rerender import store

        status = self.status()
        if not status.get("ended"):
            failed = {"code": BUG, "message": f"{LOST}: {reason}", "ended": True}
            store.put_json(self.ours / STATUS, {"folder": "", **status, **failed})


def work(call: Call) -> None:
    """Do a job in a process of its own or of a pool; nothing but its status comes back."""
    os.chdir(call.place)
    try:
        with terminable():
            take_device(call)
            do(call)
    except (Terminated, KeyboardInterrupt):
        return  # its status says so


def do(call: Call) -> None:
    """Do a job here. A failure of its own is written down, never raised; a signal is both."""
    from rerender.identity import place
    from rerender.perform import perform

    with told(call.ours, bool(call.tree.get("debug"))) as status:
        if call.number:
            report(f"{call.number + 1}: {call.said}", "job")
        folder = place(call.tree, call.name)
        status["folder"] = str(folder)
        perform(call.tree, folder, call.group, keep=call.keep)


@contextmanager
def told(ours: Path, debug: bool) -> Iterator[dict[str, Any]]:
    """Write down that a job begins, and how it ended."""
    from rerender import store

    status: dict[str, Any] = {"code": BUG, "message": LOST, "folder": "", "ended": False}
    store.put_json(ours / STATUS, status)
    try:
        yield status
        status.update(code=0, message="")
    except BaseException as error:
        status["code"], status["message"] = failure(error)
        if not isinstance(error, Exception):
            raise
        report(status["message"])
        trace(debug)
    finally:
        store.put_json(ours / STATUS, {**status, "ended": True})


def take_device(call: Call) -> None:
    """Give this process one of the devices to itself, for as long as it lives."""
    from rerender import store

    while call.devices and not _TAKEN:
        for name in call.devices:
            try:
                folder = call.ours.parent / f"device-{name.replace('/', '-')}"
                _DEVICE.enter_context(store.lock(folder))
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


def trace(wanted: bool) -> None:
    """Show the traceback of the error at hand, where that is asked for."""
    if wanted or os.environ.get("RERENDER_DEBUG") == "1":
        traceback.print_exc()
