"""What may be removed from a stage store: nothing that a process uses or works on, and nothing that
is not the store's own.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rerender import files
from rerender.errors import LockedError
from rerender.store.entries import (
    FILES,
    MANIFEST,
    MARKER,
    STAGES,
    WORK,
    WRITING,
    content,
    is_file,
    is_folder,
    is_work,
)

log = logging.getLogger(__name__)

# files of stages under way, or of entries whose manifest is lost
_OURS = re.compile(
    r"((image|trace)-\d{6,}\.safetensors|frames-\d{6,}\.yuv|frame-\d{6,}\.(raw|png|tiff|exr)"
    r"|video\.(mp4|mov|mkv)|sound\.m4a|manifest\.json|state\.json)"
)


class Lease:
    """A finished stage in use: nobody removes it before this is gone, or its process."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __del__(self) -> None:
        os.close(self._handle)


def lease(manifest: Path) -> Lease | None:
    """Hold a finished stage by its manifest; None where it is not there (any more)."""
    while True:
        try:
            handle = os.open(manifest, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        held = Lease(handle)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH)
        if files.is_still(handle, manifest):
            return held


@contextmanager
def _alone(manifest: Path) -> Iterator[bool]:
    """Whether nobody uses a finished stage, nor can begin to while the block runs."""
    try:
        handle = os.open(manifest, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield True  # there is nothing that could be used
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = files.is_still(handle, manifest)
    except OSError as error:
        alone = error.errno not in (errno.EAGAIN, errno.EACCES)
    try:
        yield alone
    finally:
        os.close(handle)


def discard(root: Path, place: Path) -> bool:
    """Take away a finished stage or a small result that nobody uses.

    Of a folder, files go that its manifest lists or that have names of ours; others stay.

    Args:
        root: the store.
        place: where it is.

    Returns:
        Whether the place is free now.

    Raises:
        ConfigError: there is a link on the way.
        ResourceError: it cannot be removed.
    """
    files.unlinked(root, place)
    if not is_folder(place):
        with files.explained(place):
            try:
                place.unlink(missing_ok=True)
            except IsADirectoryError:  # another process has just finished it
                return False
        return True
    with _alone(place / MANIFEST) as alone:
        if not alone:
            return False
        children = files.children(place)
        ours = [path for path in children if path.name in _listed(place) and is_file(path)]
        if len(ours) < len(children):
            for path in ours:
                files.remove(path)
            return False
        trash = files.folder(files.unlinked(root, root / WRITING)) / files.temporary_name()
        with suppress(FileNotFoundError):  # another process was quicker
            place.rename(trash)
            empty(trash)
        return True


def empty(folder: Path) -> None:
    """Take away the files in a folder that is the store's own, and the folder where nothing else is
    in it. Folders within, and links, stay."""
    for path in files.children(folder):
        if is_file(path):
            files.remove(path)
    with suppress(OSError):
        folder.rmdir()


def clear(root: Path, place: Path) -> None:
    """Make room for a finished stage or a small result. What is no file of the store there, or is
    in use, is moved aside.

    Raises:
        ConfigError, ResourceError: as `discard`.
    """
    if not discard(root, place):
        aside = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}")
        log.warning("%s: holds other files or is in use; moved to %s", place, aside.name)
        files.move(place, aside)


def take_away(root: Path, stage: str, path: Path) -> bool:
    """Remove something that `found` has listed.

    Returns:
        Whether it is gone: what a process uses or works on stays, as does what is not the store's.
    """
    if stage != WORK:
        return discard(root, path)
    files.unlinked(root, path)
    with suppress(LockedError), files.lock(path, ours=True):
        if is_folder(path / FILES):
            empty(path / FILES)
        files.vacate(path)
    return not path.exists()


def fold(root: Path) -> None:
    """Take away a store in which nothing is left: its marker and its empty folders."""
    sweep_dead(root)
    if is_file(root / MARKER):
        files.remove(root / MARKER)
    stages = [root / name for name in (*STAGES, WORK, WRITING) if is_folder(root / name)]
    for folder in [*(pair for stage in stages for pair in files.children(stage)), *stages, root]:
        with suppress(OSError):
            folder.rmdir()


def _listed(place: Path) -> set[str]:
    """Names of files in an entry that are the store's own."""
    names = {path.name for path in files.children(place) if _OURS.fullmatch(path.name)}
    names |= {path.name for path in files.children(place) if files.TEMPORARIES.fullmatch(path.name)}
    with suppress(ValueError, RecursionError, AttributeError, TypeError):
        names |= {*json.loads(content(place / MANIFEST) or b"{}").get("files", ())}
    return names


def sweep_dead(root: Path) -> None:
    """Take away what writers of this machine left that were killed, and what anybody left a day
    ago: a writer takes seconds. Stages that somebody works on are left alone."""
    rooms = (root, root / WRITING)
    for path in [path for room in rooms if not room.is_symlink() for path in files.dead(room)]:
        empty(path) if is_folder(path) else files.remove(path)
    for work in files.children(root / WORK) if is_folder(root / WORK) else ():
        if is_work(work) and is_folder(work / FILES) and files.dead(work / FILES):
            with suppress(LockedError), files.lock(work, ours=True):
                for path in files.dead(work / FILES):
                    files.remove(path)
