"""What files and folders are called until they take their names, and which are left over."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

from rerender.files.folders import children

TEMPORARY = ".tmp-"
TEMPORARIES = re.compile(r"\.tmp-(?P<host>[0-9a-z]+)-(?P<pid>\d+)-[0-9a-z]+")
_OURS = re.compile(r"\.tmp-[0-9a-f]{8}-\d+-[0-9a-f]{32}")  # as `temporary_name` makes them
_DAY = 86400.0
_TIDIED: set[str] = set()  # folders in which this process has looked


def temporary_name() -> str:
    """What a file or folder of this process is called until it takes its name."""
    return f"{TEMPORARY}{host()}-{os.getpid()}-{uuid.uuid4().hex}"


def dead(room: Path) -> list[Path]:
    """What writers left in a folder that were killed: those of this machine that do not live, and
    of others whatever was not written to for a day. Others may be writing there."""
    found = []
    for path in children(room):
        name = TEMPORARIES.fullmatch(path.name)
        if name is None:
            continue
        try:
            old = path.stat(follow_symlinks=False).st_mtime < time.time() - _DAY
        except FileNotFoundError:
            continue
        here = name["host"] == host()
        if not lives(int(name["pid"])) if here else old:
            found.append(path)
    return found


def tidy(room: Path) -> None:
    """Take away the files that writers left in a folder that were killed, once in each process: it
    may be a folder of the user's, so that they must be named exactly as ours."""
    place = os.path.abspath(room)  # noqa: PTH100 - as text, and through no link
    if place in _TIDIED:
        return
    _TIDIED.add(place)
    for path in dead(room):
        if _OURS.fullmatch(path.name):
            with suppress(OSError):  # it is a folder, or another process has taken it away
                path.unlink()


def lives(pid: int) -> bool:
    """Whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


@cache
def host() -> str:
    """A short name of this machine, without the signs that file names are made of. Containers of
    one machine count as several: the same pid means another process there."""
    name = socket.gethostname()
    with suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    return hashlib.sha256(name.encode()).hexdigest()[:8]
