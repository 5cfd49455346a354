"""The runs of the studio: each is the run command in a process of its own, one after the other
(`rerender.studio.warm` starts them).

All that is known of a run stands on disk, so a studio that was killed finds everything again: what
was asked (ID.json), what the command has said (ID.log), who is at it (ID.held, locked for as long
as a process of the run lives), and the run folder (ID/).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rerender import files
from rerender.errors import ConfigError, InputError, RerenderError
from rerender.run_folder import KEYS, VIDEO, read_facts, read_json, read_text
from rerender.studio.warm import RunProcess, RunStarter, Spawned

log = logging.getLogger(__name__)

ID = re.compile(r"[0-9a-f]{16}")
_PATIENCE = 10.0  # seconds that a run has to end when it is asked to
_ATTEMPTS = 3  # to start a run, each with another process that starts it
_LINE = re.compile(
    r"(?:.*: )?(?P<stage>\w+): (?P<done>\d+) of (?P<total>\d+) "
    r"\((?P<spent>[\d.]+) s(?:, about (?P<left>\d+) (?P<unit>s|min) left)?"
)
_STOPPED = ("stopped by", "lost")


class StudioRuns:
    """All runs of a studio, and the queue of those that wait.

    Args:
        root: their folder.
        starter: starts their processes.
    """

    def __init__(self, root: Path, starter: RunStarter | None = None) -> None:
        self._root, self._starter = root, starter or Spawned()
        self._queue: list[str] = []
        self._news = threading.Condition()
        self._process: RunProcess | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    # -- what the page asks for ---------------------------------------------------------------

    def start(self, clip: str, settings: dict[str, Any], arguments: Sequence[str]) -> str:
        """Put a run into the queue; the same settings are the same run, which goes on where it was
        stopped, or is there already.

        Args:
            clip: its clip.
            settings: for the page to show again.
            arguments: of the run command, without ``out=``.

        Returns:
            Its name.
        """
        id = name_of(arguments)
        with self._news:
            if id in self._queue or self._held(id) or self._complete(id):
                return id
            asked = {
                "clip": clip,
                "settings": settings,
                "arguments": self.full(arguments),
                "time": time.time(),
            }
            files.put_json(self._root / f"{id}.json", asked)
            files.remove(self._root / f"{id}.log")
            self._queue.append(id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._news.notify_all()
        return id

    def full(self, arguments: Sequence[str]) -> list[str]:
        """The arguments with the folder of the run."""
        return [*arguments, f"out={self._root / name_of(arguments)}"]

    def cancel(self, id: str) -> None:
        """Stop a run, or take it out of the queue; what it has finished is kept.

        Raises:
            InputError: there is no such run.
        """
        self._asked(id)
        with self._news:
            if id in self._queue:
                self._queue.remove(id)
                files.put(self._root / f"{id}.log", b"error: stopped by the user before it began\n")
                return
        if self._held(id):
            end_group(read_json(self._root / f"{id}.json").get("process"))

    def forget(self, id: str) -> None:
        """Take a run and its results away.

        Raises:
            ConfigError: it is under way.
        """
        self._asked(id)
        if id in self._queue or self._held(id):
            raise ConfigError("run", "is under way", "cancel it first")
        for path in (f"{id}.json", id, f"{id}.log", f"{id}.held"):
            files.remove(self._root / path)

    def all(self, clip: str | None = None) -> list[dict[str, Any]]:
        """All runs, or those of a clip, the newest first."""
        found = [
            path.stem
            for path in files.children(self._root)
            if path.suffix == ".json" and ID.fullmatch(path.stem)
        ]
        states = []
        for id in found:
            with suppress(RerenderError):  # taken away meanwhile
                if clip in (None, self._asked(id)["clip"]):
                    states.append(self.state(id))
        return sorted(states, key=lambda state: (-state["time"], state["id"]))

    def state(self, id: str) -> dict[str, Any]:
        """How a run stands, from what is on disk.

        Returns:
            state: waiting | running | done | failed | stopped; keys: numbers of the finished key
            frames; stages: done and total of each; left: seconds, None while unknown; message: why
            it failed; warnings.
        """
        asked = self._asked(id)
        lines = self._said(id)
        stages, left = _progress(lines)
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        message = errors[-1] if errors else ""
        if id in self._queue:
            state = "waiting"
        elif self._held(id):
            state = "running"
        elif self._complete(id):
            state, message = "done", ""
        else:
            state = "failed" if message and not message.startswith(_STOPPED) else "stopped"
        age = 0.0
        with suppress(OSError):
            age = time.time() - (self._root / f"{id}.log").stat().st_mtime
        return {
            "id": id,
            "clip": asked["clip"],
            "settings": asked["settings"],
            "command": asked["arguments"],
            "time": asked["time"],
            "state": state,
            "message": message,
            "warnings": [
                line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")
            ],
            "keys": self.keys(id),
            "stages": stages if state == "running" else {},
            "left": None if left is None or state != "running" else max(left - age, 0),
        }

    def keys(self, id: str) -> list[int]:
        """Numbers of the key frames that are finished."""
        room = self._root / id / KEYS
        found = (path for path in files.children(room) if path.suffix == ".png")
        return sorted(int(path.stem) for path in found if path.stem.isdecimal())

    def file(self, id: str, name: str) -> Path:
        """A file of a run folder.

        Raises:
            InputError: there is none.
        """
        self._asked(id)
        path = self._root / id / name
        if path.is_symlink() or not path.is_file():
            raise InputError("run", f"{name} is not there yet", "wait for it")
        return path

    def video(self, id: str) -> Path:
        """The finished video."""
        return self.file(id, VIDEO)

    def close(self) -> None:
        """End the run under way, for a studio that ends; it goes on when it is asked for again."""
        with self._news:
            self._closed = True
            self._queue.clear()
            self._news.notify_all()
        if self._process is not None:
            end_group(self._process.pid)
        self._starter.close()
        if self._thread is not None:
            self._thread.join(2 * _PATIENCE)

    # -- how it is done -----------------------------------------------------------------------

    def _asked(self, id: str) -> dict[str, Any]:
        if not ID.fullmatch(id) or not (self._root / f"{id}.json").is_file():
            raise InputError("run", f"there is no {id[:40]!r}", "choose another")
        return read_json(self._root / f"{id}.json")

    def _said(self, id: str) -> list[str]:
        with suppress(InputError):
            return read_text(self._root / f"{id}.log").replace("\r", "\n").splitlines()
        return []

    def _complete(self, id: str) -> bool:
        try:
            read_facts(self._root / id)
        except InputError:
            return False
        return (self._root / id / VIDEO).is_file()

    def _held(self, id: str) -> bool:
        """Whether a process of a run lives, of this studio or of one that was killed."""
        try:
            handle = os.open(self._root / f"{id}.held", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who else looks is in nobody's way
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _work(self) -> None:
        lost = 0
        while True:
            with self._news:
                while not self._queue and not self._closed:
                    self._news.wait()
                if self._closed:
                    return
            if self._others():  # left over from a studio that was killed
                time.sleep(0.5)
                continue
            problem: Exception | None = None
            try:
                self._starter.ready()
            except OSError as error:
                problem = error
            with self._news:
                if not self._queue or self._closed:
                    continue
                try:
                    if problem is None:
                        self._process = self._begin(self._queue[0])
                except (OSError, RerenderError) as error:
                    problem = error
                lost = lost + 1 if isinstance(problem, ConnectionError) else 0
                if 0 < lost < _ATTEMPTS:
                    continue
                id, lost = self._queue.pop(0), 0
                if problem is not None:
                    reason = str(problem).replace("\n", " ")
                    files.put(self._root / f"{id}.log", f"error: {reason}\n".encode())
            if self._process is not None:
                self._process.wait()
                end_group(self._process.pid)  # what it has left behind
                self._process = None

    @property
    def busy(self) -> bool:
        """Whether a run is under way or waits."""
        return bool(self._queue) or self._process is not None or self._others()

    def _others(self) -> bool:
        inside = files.children(self._root)
        return any(self._held(path.stem) for path in inside if path.suffix == ".held")

    def _begin(self, id: str) -> RunProcess:
        """Start the process of a run: a group of its own, ended with all that it started."""
        asked = self._asked(id)
        held, said = self._root / f"{id}.held", self._root / f"{id}.log"
        for path in (held, said):
            files.put(path, b"")
        # The process itself writes to these: they outlive a studio that is killed.
        hold = os.open(held, os.O_RDWR | os.O_NOFOLLOW)
        output = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            fcntl.flock(hold, fcntl.LOCK_EX)
            process = self._starter.run(asked["arguments"], hold, output)
        finally:
            os.close(hold)
            os.close(output)
        files.put_json(self._root / f"{id}.json", {**asked, "process": process.pid})
        return process


def name_of(arguments: Sequence[str]) -> str:
    """The name of the run with these arguments."""
    return hashlib.sha256(json.dumps(list(arguments)).encode()).hexdigest()[:16]


def end_group(leader: Any) -> None:
    """Ask a group of processes to end, and after a while end it."""
    if not isinstance(leader, int) or leader <= 1:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            os.killpg(leader, 0)  # ProcessLookupError when all are gone
            time.sleep(0.05)
        os.killpg(leader, signal.SIGKILL)


def _progress(lines: Sequence[str]) -> tuple[dict[str, list[int]], float | None]:
    """Done and total of each stage, and the seconds left, as the run has said last."""
    stages: dict[str, list[int]] = {}
    left: float | None = None
    for line in lines:
        if found := _LINE.match(line):
            stages[found["stage"]] = [int(found["done"]), int(found["total"])]
            if found["left"]:
                left = int(found["left"]) * (60 if found["unit"] == "min" else 1)
    return stages, left
