"""Folders: made where they are missing, and nothing below a locked one reached through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rerender.errors import ConfigError, ResourceError
from rerender.files.explain import explained

_GUARDED: list[Path] = []  # folders that this process has locked, absolute


def folder(path: Path) -> Path:
    """Make a folder and those above it; a file in its place is refused.

    Raises:
        ConfigError: a file has that name, or a link leads out of a folder that is locked.
        ResourceError: it cannot be made.
    """
    guarded(path)
    with explained(path):
        while not _made(path):
            pass
    return path


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


def children(path: Path) -> list[Path]:
    """What is in a folder, by name; nothing where it is gone or is none."""
    try:
        return sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


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


def guarded(path: Path) -> None:
    """`unlinked` below every folder that this process has locked."""
    end = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    for root in _GUARDED:
        if end.is_relative_to(root):
            unlinked(root, end)


@contextmanager
def guard(path: Path) -> Iterator[None]:
    """Look at every path below a folder, which this process has locked, while the block runs."""
    root = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    _GUARDED.append(root)
    try:
        yield
    finally:
        _GUARDED.remove(root)


def check_writable(path: Path, key: str, cure: str | None = None) -> None:
    """Refuse a folder in which nothing could be made, without making anything.

    Args:
        path: the folder; it need not be there.
        key: the configuration key that names it.
        cure: what helps; None is another value of the key.

    Raises:
        ConfigError: a file stands in the way.
        ResourceError: it, or the folder in which it would be made, may not be written.
    """
    nearest = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), path)
    cure = cure or f"choose another folder: {key}=PATH"
    if not nearest.is_dir():
        raise ConfigError(key, f"{nearest} is a file or a link to nothing", cure)
    if not os.access(nearest, os.W_OK | os.X_OK):
        fixed = os.statvfs(nearest).f_flag & os.ST_RDONLY
        reason = "read-only file system" if fixed else "permission denied"
        raise ResourceError(key, f"{path} cannot be written ({reason} at {nearest})", cure)


def sync(path: Path) -> None:
    """Have the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
