"""What a stage store is made of: its names, its checked manifests, and what may be removed from it.

A folder is a stage store where it holds the marker, or, if it was made before there was one, where
nothing in it has another name than the store gives. Whatever has another name, and whatever a link
leads to, is somebody else's: it is neither read nor removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender import files
from rerender.errors import ConfigError, LockedError
from rerender.video import sha256_file

log = logging.getLogger(__name__)

MARKER, SIGNATURE = ".rerender-store", b"rerender stage store 1\n"
MANIFEST, STATE, WORK, WRITING, FILES = (
    "manifest.json",
    "state.json",
    "work",
    "writing",
    "files",
)
STAGES = ("control", "flow", "keys", "scores", "video", "weights")
FORMAT = 2  # of facts: what another version wrote is made again
_PAIR, _KEY = re.compile(r"[0-9a-f]{2}"), re.compile(r"[0-9a-f]{32}")
_UNDER_WAY = re.compile(rf"({'|'.join(STAGES)})-[0-9a-f]{{32}}")
# files of stages under way, or of entries whose manifest is lost
_OURS = re.compile(
    r"((image|trace)-\d{6,}\.safetensors|frames-\d{6,}\.yuv|frame-\d{6,}\.(raw|png|tiff|exr)"
    r"|video\.(mp4|mov|mkv)|sound\.m4a|manifest\.json|state\.json)"
)


# -- what is a store ------------------------------------------------------------------------------


def is_store(root: Path) -> bool:
    """Whether a folder is a stage store."""
    if content(root / MARKER) == SIGNATURE:
        return True
    names = {path.name for path in files.children(root)} - {MARKER}
    return bool(names & {*STAGES, WORK, WRITING}) and _plain(root)


def check(root: Path) -> None:
    """Refuse a folder that holds other things than a stage store; an empty one may become one.

    Raises:
        ConfigError: it does, or a file has this name.
    """
    if os.path.lexists(root) and not root.is_dir():
        raise ConfigError("store", f"{root} is not a folder", "choose another folder: store=PATH")
    if not is_store(root) and not _plain(root):
        problem = f"{root} is no stage store and holds other files"
        raise ConfigError("store", problem, "choose another folder: store=PATH")


def _plain(root: Path) -> bool:
    """Whether everything in a folder has a name that the store gives, and is no link."""
    for path in files.children(root):
        if path.name in STAGES and _is_folder(path):
            pairs = files.children(path)
            if not all(_is_folder(pair) and _PAIR.fullmatch(pair.name) for pair in pairs):
                return False
            if not all(_is_entry(entry) for pair in pairs for entry in files.children(pair)):
                return False
        elif path.name == WORK and _is_folder(path):
            if not all(_is_work(entry) for entry in files.children(path)):
                return False
        elif path.name == WRITING and _is_folder(path):
            if not all(files.TEMPORARIES.fullmatch(entry.name) for entry in files.children(path)):
                return False
        elif not (path.name == MARKER or files.TEMPORARIES.fullmatch(path.name)):
            return False
    return True


def found(root: Path) -> Iterator[tuple[str, Path]]:
    """(stage, path) of all finished stages, small results and stages under way ("work") in a store;
    nothing else that lies there."""
    for stage in STAGES:
        for pair in files.children(root / stage) if _is_folder(root / stage) else ():
            entries = files.children(pair) if _is_folder(pair) else ()
            yield from ((stage, entry) for entry in entries if _is_entry(entry))
    if _is_folder(root / WORK):
        yield from ((WORK, entry) for entry in files.children(root / WORK) if _is_work(entry))


def _is_entry(path: Path) -> bool:
    named = _KEY.fullmatch(path.name) is not None and path.name.startswith(path.parent.name)
    return named and (_is_folder(path) or _is_file(path))


def _is_work(path: Path) -> bool:
    return _UNDER_WAY.fullmatch(path.name) is not None and _is_folder(path)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def content(path: Path) -> bytes | None:
    """The content of a plain file; None where there is none."""
    with suppress(OSError):
        if _is_file(path):
            return path.read_bytes()
    return None


# -- manifests ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """What a folder of files says of itself, checked.

    Attributes:
        facts: what its maker has to know.
        files: sha256 of each file by its name.
    """

    facts: Mapping[str, Any]
    files: Mapping[str, str]


def write(path: Path, label: str, facts: Mapping[str, Any], sums: Mapping[str, str]) -> None:
    """Write a manifest, whose checksum covers its facts, its files and whose it is.

    Args:
        path: its file.
        label: what it is the manifest of; a copy somewhere else counts for nothing.
        facts: plain values.
        sums: sha256 of each file by its name.
    """
    body = {"facts": dict(facts), "files": dict(sums)}
    files.put_json(path, {**body, "sha256": _checksum(path.name, label, body)})


def read(path: Path, label: str) -> Manifest | None:
    """A manifest all of whose files are there as it says; None, and a warning, where anything is
    damaged, and None where there is none."""
    data = content(path)
    if data is None:
        return None
    with suppress(ValueError, RecursionError):
        said = json.loads(data)
        if isinstance(said, dict) and said.keys() == {"facts", "files", "sha256"}:
            checksum = said.pop("sha256")
            if checksum == _checksum(path.name, label, said) and _intact(path.parent, said):
                return Manifest(said["facts"], said["files"])
    log.warning("%s: damaged or of another version, its stage is made again", path.parent)
    return None


def _checksum(name: str, label: str, body: Mapping[str, Any]) -> str:
    # Read back first: what JSON changes (tuples, keys that are numbers) is changed here too.
    plain = json.loads(json.dumps(body))
    text = json.dumps([FORMAT, name, label, plain], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _intact(folder: Path, said: Mapping[str, Any]) -> bool:
    return all(digest(folder / name) == expected for name, expected in said["files"].items())


def digest(path: Path) -> str:
    """The sha256 of a plain file; "" where there is none."""
    with suppress(OSError):
        if _is_file(path):
            return sha256_file(path)
    return ""


# -- leases and removal ---------------------------------------------------------------------------


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
    if not _is_folder(place):
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
        ours = [path for path in children if path.name in _listed(place) and _is_file(path)]
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
        if _is_file(path):
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
        if _is_folder(path / FILES):
            empty(path / FILES)
        files.vacate(path)
    return not path.exists()


def fold(root: Path) -> None:
    """Take away a store in which nothing is left: its marker and its empty folders."""
    sweep_dead(root)
    if _is_file(root / MARKER):
        files.remove(root / MARKER)
    stages = [root / name for name in (*STAGES, WORK, WRITING) if _is_folder(root / name)]
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
        empty(path) if _is_folder(path) else files.remove(path)
    for work in files.children(root / WORK) if _is_folder(root / WORK) else ():
        if _is_work(work) and _is_folder(work / FILES) and files.dead(work / FILES):
            with suppress(LockedError), files.lock(work, ours=True):
                for path in files.dead(work / FILES):
                    files.remove(path)


def modified(path: Path) -> float:
    """When a file was changed, in seconds since the epoch; 0 where it is gone."""
    try:
        return path.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def size(path: Path) -> int:
    """Bytes of a plain file, or of those directly in a folder and in its `FILES`; 0 where gone."""
    total = 0
    for file in [path, *files.children(path), *files.children(path / FILES)]:
        with suppress(OSError):
            status = file.stat(follow_symlinks=False)
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
