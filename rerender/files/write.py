"""Files that appear whole under their names, and logs that only grow."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from rerender.errors import ConfigError
from rerender.files.explain import explained
from rerender.files.folders import folder, sync
from rerender.files.temporaries import temporary_name, tidy

# What can go wrong inside a `writing` block while its own file is written; other errors there
# (a source that cannot be read, say) are not about this file.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def put(path: Path, data: bytes, room: Path | None = None) -> None:
    """Write a whole file at once.

    Args:
        path: where it goes; missing folders are made.
        data: its content.
        room: where it is written before it takes its name, on the same disk; None is beside it.

    Raises:
        ResourceError: the disk is full, read-only, or the folder may not be written.
        ConfigError: a file stands where a folder is needed, or the other way round.
    """
    with writing(path, room) as file:
        file.write(data)


@contextmanager
def writing(path: Path, room: Path | None = None) -> Iterator[BinaryIO]:
    """A seekable binary file that takes its name when the block ends well, and vanishes otherwise.

    Args:
        path: where it goes; missing folders are made.
        room: as `put`.

    Raises:
        ResourceError, ConfigError: as `put`; errors of the block itself pass through.
    """
    folder(path.parent)
    room = path.parent if room is None else folder(room)
    tidy(room)
    temporary = room / temporary_name()
    with explained(path):
        for _ in range(100):  # somebody may take the folder away at once
            with suppress(FileNotFoundError):
                file = cast(BinaryIO, temporary.open("xb+"))
                break
            folder(room)
        else:
            file = cast(BinaryIO, temporary.open("xb+"))
    try:
        with explained(path, _WRITE_ERRORS), file:  # closing writes what is still buffered
            yield file
            file.flush()
            os.fsync(file.fileno())
        with explained(path):
            temporary.replace(path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Write a file that says the same as another one.

    Raises:
        ResourceError, ConfigError: as `put`.
    """
    with source.open("rb") as data, writing(target) as file:
        shutil.copyfileobj(data, file)


def put_json(path: Path, value: Any) -> None:
    """Write a value as JSON; NaN and infinity are a bug of the caller (ValueError)."""
    put(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file that only grows (a log); it survives a kill up to its last line.

    Args:
        path: the file, made if missing together with its folder.
        data: what to add, whole lines.

    Raises:
        ResourceError, ConfigError: as `put`.
    """
    folder(path.parent)
    with explained(path):
        with open(path, "ab", opener=unfollowed) as file:
            alone = os.fstat(file.fileno()).st_nlink == 1
            if alone:
                file.write(data)
        if not alone:  # the same file has another name, under which it stays as it is
            put(path, path.read_bytes() + data)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to the end of a file of lines. Half a line that a killed writer left is dropped,
    so that no line is joined to another.

    Args:
        path: the file, made if missing together with its folder.
        line: without its end.

    Raises:
        ResourceError, ConfigError: as `put`.
    """
    folder(path.parent)
    with suppress(FileNotFoundError):
        with explained(path, (errno.ELOOP, errno.ENXIO)):
            file = open(path, "rb", opener=unfollowed)  # noqa: SIM115 - closed below
        with file:
            size = file.seek(0, os.SEEK_END)
            whole = _whole(file, size)
            file.seek(0)
            kept = file.read(whole) if whole < size else None
        if kept is not None:
            put(path, kept)
    append(path, line + b"\n")


def _whole(file: BinaryIO, size: int) -> int:
    """How many bytes of a file are whole lines."""
    while size:
        start = max(0, size - 4096)
        file.seek(start)
        block = file.read(size - start)
        if b"\n" in block:
            return start + block.rindex(b"\n") + 1
        size = start
    return 0


def unfollowed(path: str, flags: int) -> int:
    """Open a file for writing: no link, and no pipe or device."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise ConfigError(path, "is not a plain file", "remove it")
