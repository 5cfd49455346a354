"""The only writer: every file appears whole under its name, or not at all.

A file is written beside its place as ``.tmp-<host>-<pid>-<uuid>``, synced, renamed, and the folder
is synced too. What libraries would write by themselves (videos, pictures, tensors) is written
through here, because several of them do not notice a full disk.

Nothing is written through a link that somebody has put there: a file in place of which there is a
link is replaced, or refused where it is added to; and below a folder that this process has locked,
every folder on the way is looked at first (`unlinked`). The folder itself, and those above it, may
be links: the user named them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image
from torch import Tensor, uint8

from rerender.errors import ConfigError, LockedError, RerenderError, ResourceError

LOCK, TEMPORARY = "lock", ".tmp-"

_CURES = {
    errno.ENOSPC: "free some space or write somewhere else",
    errno.EDQUOT: "free some of your quota or write somewhere else",
    errno.EFBIG: "raise the file size limit (ulimit -f) or write somewhere else",
    errno.EROFS: "write to a folder that is not read-only",
    errno.EACCES: "make the folder writable or write somewhere else",
    errno.EPERM: "make the folder writable or write somewhere else",
    errno.EIO: "check the disk, then run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_MOMENT = 5.0  # seconds in which somebody who has a lock writes his name into it
_LONGEST = 400  # bytes of a lock
_OWNER = re.compile(rb"(pid (?P<pid>\d+) on (?P<host>[^\n]*)\n)?")
TEMPORARIES = re.compile(r"\.tmp-(?P<host>[0-9a-z]+)-(?P<pid>\d+)-[0-9a-z]+")
_DAY = 86400.0
_GUARDED: list[Path] = []  # folders that this process has locked, absolute
_IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY)
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
            _sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


class Scratch:
    """Bytes on disk for as long as this lives: one file without a name, in the system's folder for
    temporary files (``TMPDIR``), which vanishes with the process however that ends.

    Raises:
        ResourceError: the file cannot be made.
    """

    def __init__(self) -> None:
        self._place = Path(tempfile.gettempdir())
        with explained(self._place):
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as this
        self._end = 0

    def write(self, data: bytes, place: int | None = None) -> int:
        """Keep bytes and return their place.

        Args:
            data: what to keep.
            place: of equally many bytes to write over; None takes fresh room.

        Raises:
            ResourceError: the disk is full or fails.
        """
        start = self._end if place is None else place
        rest = memoryview(data)
        with explained(self._place):
            while rest:  # a write may be cut short
                written = os.pwrite(self._file.fileno(), rest, start + len(data) - len(rest))
                rest = rest[written:]
        self._end = max(self._end, start + len(data))
        return start

    def read(self, place: int, size: int) -> bytes:
        """The ``size`` bytes kept at a place."""
        found = b""
        while len(found) < size:
            part = os.pread(self._file.fileno(), size - len(found), place + len(found))
            if not part:
                raise ValueError(f"nothing is kept at {place}+{size}")
            found += part
        return found


def copy(source: Path, target: Path) -> None:
    """Write a file that says the same as another one.

    Raises:
        ResourceError, ConfigError: as `put`.
    """
    with source.open("rb") as data, writing(target) as file:
        shutil.copyfileobj(data, file)


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
        with open(path, "ab", opener=_unfollowed) as file:
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
            file = open(path, "rb", opener=_unfollowed)  # noqa: SIM115 - closed below
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


def _unfollowed(path: str, flags: int) -> int:
    """Open a file for writing: no link, and no pipe or device."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise ConfigError(path, "is not a plain file", "remove it")


def put_json(path: Path, value: Any) -> None:
    """Write a value as JSON; NaN and infinity are a bug of the caller (ValueError)."""
    put(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def png(image: Tensor) -> bytes:
    """An 8-bit PNG file of an image ``[3,H,W]`` or ``[1,H,W]``; values outside 0..1 are clipped.

    Args:
        image: numbers in 0..1, or levels in 8 bits.

    Raises:
        ValueError: the image is not finite or has another number of channels.
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"a picture is [3,H,W] or [1,H,W], received {list(image.shape)}")
    found = image.cpu() if image.dtype == uint8 else levels(image)
    pixels = np.ascontiguousarray(found.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def levels(image: Tensor) -> Tensor:
    """An image of numbers in 0..1 in 8 bits; values outside are clipped.

    Raises:
        ValueError: the image is not finite.
    """
    pixels = image.detach().float().cpu()
    if not bool(pixels.isfinite().all()):
        raise ValueError("a picture holds NaN or infinity")
    return (pixels.clamp(0, 1) * 255).round().byte()


def folder(path: Path) -> Path:
    """Make a folder and those above it; a file in its place is refused.

    Raises:
        ConfigError: a file has that name, or a link leads out of a folder that is locked.
        ResourceError: it cannot be made.
    """
    _guarded(path)
    with explained(path):
        while not _made(path):
            pass
    return path


def unlinked(root: Path, path: Path) -> Path:
    """Refuse a path on which there is a link, so that nothing is written or removed elsewhere.

    Args:
        root: a folder that the user named; it may be a link itself.
        path: below it; the root, its end and what is between are looked at but for the root.

    Returns:
        The path as it was given.

    Raises:
        ConfigError: a part of the path below the root is a link, or it leads out of the root.
    """
    top, end = Path(os.path.abspath(root)), Path(os.path.abspath(path))  # noqa: PTH100 - no links
    if not end.is_relative_to(top):
        raise ConfigError(path, f"is not inside {root}", "choose another path")
    for part in end.relative_to(top).parts:
        top /= part
        if top.is_symlink():
            raise ConfigError(top, "is a link, and nothing is written through it", "remove it")
    return path


def _guarded(path: Path) -> None:
    """`unlinked` below every folder that this process has locked."""
    end = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    for root in _GUARDED:
        if end.is_relative_to(root):
            unlinked(root, end)


def _made(path: Path) -> bool:
    """Make a folder; whether it is there, since another process may take it away at once."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # a file, or a folder that was there for a moment
        try:
            if not stat.S_ISDIR(path.stat().st_mode):
                raise
        except FileNotFoundError:
            if path.is_symlink():
                raise
            return False
    return True


def check_writable(path: Path, key: str) -> None:
    """Refuse a folder in which nothing could be made, without making anything.

    Args:
        path: the folder; it need not be there.
        key: the configuration key that names it.

    Raises:
        ConfigError: a file stands in the way.
        ResourceError: it, or the folder in which it would be made, may not be written.
    """
    nearest = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), path)
    cure = f"choose another folder: {key}=PATH"
    if not nearest.is_dir():
        raise ConfigError(key, f"{nearest} is a file or a link to nothing", cure)
    if not os.access(nearest, os.W_OK | os.X_OK):
        fixed = os.statvfs(nearest).f_flag & os.ST_RDONLY
        reason = "read-only file system" if fixed else "permission denied"
        raise ResourceError(key, f"{path} cannot be written ({reason} at {nearest})", cure)


@contextmanager
def lock(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Have a folder to oneself while the block runs; the lock goes with the process.

    Args:
        path: the folder, made if missing.
        waiting: told who has it, before waiting for its end; None does not wait.

    Raises:
        LockedError: another process has it (its pid and host are named).
    """
    while True:  # the one who has it may take the folder away at his end: then begin again
        file = folder(path) / LOCK
        with explained(file):
            try:
                handle = _unfollowed(str(file), os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                continue
        try:
            _have(handle, path, waiting)
            if not is_still(handle, file):
                continue
            if os.fstat(handle).st_nlink > 1:  # the same file has another name: it stays so there
                remove(file)
                continue
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
        if os.fstat(handle).st_size > _LONGEST:
            raise ConfigError(file, "is no lock of this program", "choose another folder")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    root = Path(os.path.abspath(file.parent))  # noqa: PTH100 - links stay as they are
    _GUARDED.append(root)
    try:
        yield
    finally:
        _GUARDED.remove(root)
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
    return "" if here and not _lives(int(found["pid"])) else data.decode(errors="replace").strip()


def is_still(handle: int, file: Path) -> bool:
    """Whether a file that is open is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat(follow_symlinks=False))
    except OSError:
        return False


def move(source: Path, target: Path) -> None:
    """Give a finished folder its name; it is there as a whole or not at all.

    Raises:
        ResourceError, ConfigError: as `put`, also where the name is taken.
    """
    folder(target.parent)
    _guarded(source)
    with explained(target):
        source.rename(target)
        _sync(target.parent)


def remove(path: Path) -> None:
    """Take away a file or a folder with all that is in it; one that is gone already is no error.

    A link is taken away itself, never what it leads to.
    """
    _guarded(path.parent)
    with explained(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def vacate(path: Path) -> None:
    """Take away the lock of a folder that this process has locked, and the folder where nothing
    else is in it; one that is locked anew on the way stays."""
    for leftover in path.glob(f"{TEMPORARY}*"):
        if TEMPORARIES.fullmatch(leftover.name):
            remove(leftover)
    with suppress(OSError):
        (path / LOCK).unlink()
        path.rmdir()


def touch(path: Path) -> None:
    """Note that a file was used, to the hour, where that can be noted."""
    with suppress(OSError):
        if path.stat().st_mtime < time.time() - 3600:
            os.utime(path)


def temporary_name() -> str:
    """What a file or folder of this process is called until it takes its name."""
    return f"{TEMPORARY}{_host()}-{os.getpid()}-{uuid.uuid4().hex}"


def dead(room: Path) -> list[Path]:
    """What writers left in a folder that were killed: those of this machine that do not live, and
    whatever was not written to for a day. Others may be writing there."""
    found = []
    for path in sorted(room.glob(f"{TEMPORARY}*")):
        name = TEMPORARIES.fullmatch(path.name)
        if name is None:
            continue
        try:
            old = path.stat(follow_symlinks=False).st_mtime < time.time() - _DAY
        except FileNotFoundError:
            continue
        if old or (name["host"] == _host() and not _lives(int(name["pid"]))):
            found.append(path)
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


@cache
def _host() -> str:
    """A short name of this machine, without the signs that file names are made of. Containers of
    one machine count as several: the same pid means another process there."""
    name = socket.gethostname()
    with suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a path
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def sweep(path: Path) -> None:
    """Take away what writers that were killed left in a folder and below; for whoever has it to
    himself."""
    for leftover in path.rglob(f"{TEMPORARY}*"):
        if TEMPORARIES.fullmatch(leftover.name):
            remove(leftover)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def explained(path: Path, only: tuple[int, ...] | None = None) -> Iterator[None]:
    """Turn an error of the operating system into one line that names the file and the cure."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        raise _explain(path, error) from error


def _explain(path: Path, error: OSError) -> RerenderError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in _IN_THE_WAY:
        blocker = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), path)
        kind = "folder" if blocker.is_dir() else "file"
        return ConfigError(blocker, f"a {kind} has this name already", "choose another output path")
    if error.errno in (errno.ELOOP, errno.ENXIO):
        kind = "link" if error.errno == errno.ELOOP else "pipe"
        return ConfigError(path, f"is a {kind}, and nothing is written through it", "remove it")
    cure = _CURES.get(error.errno or 0, "write somewhere else")
    return ResourceError(path, f"cannot be written ({reason})", cure)
