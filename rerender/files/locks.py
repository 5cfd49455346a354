"""A folder that one process has to itself."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rerender.errors import ConfigError, LockedError
from rerender.files.explain import explained
from rerender.files.folders import children, folder, guard
from rerender.files.moves import remove
from rerender.files.temporaries import TEMPORARIES, lives
from rerender.files.write import unfollowed

LOCK = "lock"
_MOMENT = 5.0  # seconds in which somebody who has a lock writes his name into it
_LONGEST = 400  # bytes of a lock
_OWNER = re.compile(rb"(pid (?P<pid>\d+) on (?P<host>[^\n]*)\n)?")


@contextmanager
def lock(
    path: Path, waiting: Callable[[str], None] | None = None, ours: bool = False
) -> Iterator[None]:
    """Have a folder to oneself while the block runs; the lock goes with the process.

    Args:
        path: the folder, made if missing.
        waiting: told who has it, before waiting for its end; None does not wait.
        ours: nobody but this program puts files into the folder: a lock that says something else
            is a damaged one.

    Raises:
        LockedError: another process has it (its pid and host are named).
        ConfigError: somebody's file has the name of the lock.
    """
    while True:  # the one who has it may take the folder away at his end: then begin again
        file = folder(path) / LOCK
        with explained(file):
            try:
                handle = unfollowed(str(file), os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                continue
        try:
            _have(handle, path, waiting)
            if not is_still(handle, file):
                continue
            if os.fstat(handle).st_nlink > 1:  # the same file has another name: it stays so there
                remove(file)
                continue
            with explained(file):
                if os.fstat(handle).st_size > _LONGEST and not ours:
                    raise ConfigError(file, "is no lock of this program", "choose another folder")
            with _noted(handle, file):
                yield
            return
        finally:
            os.close(handle)


@contextmanager
def _noted(handle: int, file: Path) -> Iterator[None]:
    """Write into a lock who has it, and guard its folder. Nobody stands in one that nobody has,
    unless he was killed."""
    with explained(file):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    try:
        with guard(file.parent):
            yield
    finally:
        with suppress(OSError):
            os.ftruncate(handle, 0)


def _have(handle: int, path: Path, waiting: Callable[[str], None] | None) -> None:
    """Lock a file, or say who has it.

    Whoever takes it has the lock a moment before his name stands in it; what is read then (nothing,
    or one who was killed) is not said. That moment is waited for.
    """
    owner, end = "", time.monotonic() + _MOMENT
    while not owner:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(os.pread(handle, _LONGEST, 0))
        if not owner and time.monotonic() > end:
            owner = "another process"
        time.sleep(0 if owner else 0.005)
    if waiting is None:
        raise LockedError(path, f"in use by {owner}", "wait for it or stop it")
    waiting(owner)
    fcntl.flock(handle, fcntl.LOCK_EX)


def owner(path: Path) -> str | None:
    """The host of whoever has locked a folder, or had when he was killed; None where nobody stands
    in its lock."""
    with suppress(OSError):
        file = path / LOCK
        if file.is_file() and not file.is_symlink():
            found = _OWNER.fullmatch(file.read_bytes()[:_LONGEST])
            if found is not None and found["host"] is not None:
                return found["host"].decode(errors="replace")
    return None


def _owner(data: bytes) -> str:
    """Who stands in a lock; "" where it is not written yet, or one of this machine who is gone."""
    found = _OWNER.fullmatch(data)
    if found is None or found["pid"] is None:
        return ""
    here = found["host"].decode(errors="replace") == socket.gethostname()
    return "" if here and not lives(int(found["pid"])) else data.decode(errors="replace").strip()


def is_still(handle: int, file: Path) -> bool:
    """Whether a file that is open is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat(follow_symlinks=False))
    except OSError:
        return False


def vacate(path: Path) -> None:
    """Take away the lock of a folder that this process has locked, and the folder where nothing
    else is in it; one that is locked anew on the way stays."""
    for leftover in children(path):
        if TEMPORARIES.fullmatch(leftover.name):
            remove(leftover)
    with suppress(OSError):
        (path / LOCK).unlink()
        path.rmdir()
