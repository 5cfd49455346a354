"""Dying at a file operation, and what is left then.

Every file operation of a process is counted: opening for writing, each write (which is cut in
half), syncing, renaming, removing, making a folder. At the chosen one the process is killed, as by
``kill -9``, or the operation fails with an error. Death of the process is what this sees; data that
a disk loses with its power is not.
"""

from __future__ import annotations

import builtins
import gc
import hashlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_NAMED = ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync")
WRITING = set("wxa+")
VARYING = ("record.jsonl", "run.log", "metrics.json", "manifest.json", "lock", "state.json")


class Faults:
    """Counts file operations, and stops at one of them.

    Args:
        at: number of the operation at which something happens, from 1; 0 only counts.
        error: what the operation fails with; None kills the process.

    Attributes:
        count: how many there were.
        writes: numbers of those that write.
    """

    def __init__(self, at: int = 0, error: int | None = None) -> None:
        self.count, self._at, self._error = 0, at, error
        self.writes: list[int] = []

    def install(self) -> None:
        """From now on, for the whole process: only for one that ends soon."""
        for name in _NAMED:
            setattr(os, name, self._counted(getattr(os, name)))
        opened = io.open

        def watched(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            if not WRITING & set(mode):
                return opened(file, mode, *args, **more)
            self.step()
            return _Watched(opened(file, mode, *args, **more), self)

        io.open = builtins.open = watched

    def step(self, half: Callable[[], None] = lambda: None) -> None:
        """One operation begins; ``half`` does a part of it."""
        self.count += 1
        if self.count == self._at:
            half()
            if self._error is not None:
                raise OSError(self._error, os.strerror(self._error))
            os.kill(os.getpid(), signal.SIGKILL)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            self.step()
            return function(*args, **more)

        return counted


class _Watched:
    """A file whose writes are counted."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._file.__exit__(*error)

    def write(self, data: Any) -> int:
        self._faults.writes.append(self._faults.count + 1)

        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._faults.step(half)
        return int(self._file.write(data))


def forked(work: Callable[[], int], log: Path) -> int:
    """The exit code of work that is done in a copy of this process; -9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(begun(work, log), 0)[1])


def begun(work: Callable[[], int], log: Path) -> int:
    """The id of a copy of this process that does some work and ends with its exit code. A process
    of its own would spend most of its time on the imports that this one has made."""
    gc.collect()  # the copy must not close what threads of this process work on
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def contents(place: Path) -> dict[str, str]:
    """The hash of every file below a folder that the same work always makes the same."""
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name not in VARYING
    }


def torn(found: Mapping[str, str], whole: Mapping[str, str]) -> list[str]:
    """Files under a final name that are not what the undisturbed work makes there."""
    return [name for name, sum_ in found.items() if name in whole and whole[name] != sum_]


def damaged(place: Path) -> list[str]:
    """Small files of facts below a folder that cannot be read."""
    found = []
    for path in place.rglob("*.json"):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found.append(path.relative_to(place).as_posix())
    return found
