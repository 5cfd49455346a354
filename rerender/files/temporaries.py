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
_DAY = 86400.0


def temporary_name() -> str:
    """What a file or folder of this process is called until it takes its name."""
    return f"{TEMPORARY}{host()}-{os.getpid()}-{uuid.uuid4().hex}"


def dead(room: Path) -> list[Path]:
    """What writers left in a folder that were killed: those of this machine that do not live, and
    whatever was not written to for a day. Others may be writing there."""
    found = []
    for path in children(room):
        name = TEMPORARIES.fullmatch(path.name)
        if name is None:
            continue
        try:
            old = path.stat(follow_symlinks=False).st_mtime < time.time() - _DAY
        except FileNotFoundError:
            continue
        if old or (name["host"] == host() and not lives(int(name["pid"]))):
            found.append(path)
    return found


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
