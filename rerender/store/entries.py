"""What a stage store is made of: its names and its checked manifests.

A folder is a stage store where it holds the marker, or, if it was made before there was one, where
nothing in it has another name than the store gives. Whatever has another name, and whatever a link
leads to, is somebody else's: it is neither read nor removed (`rerender.store.removal`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerender import files
from rerender.errors import ConfigError
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
        if path.name in STAGES and is_folder(path):
            pairs = files.children(path)
            if not all(is_folder(pair) and _PAIR.fullmatch(pair.name) for pair in pairs):
                return False
            if not all(_is_entry(entry) for pair in pairs for entry in files.children(pair)):
                return False
        elif path.name == WORK and is_folder(path):
            if not all(is_work(entry) for entry in files.children(path)):
                return False
        elif path.name == WRITING and is_folder(path):
            if not all(files.TEMPORARIES.fullmatch(entry.name) for entry in files.children(path)):
                return False
        elif not (path.name == MARKER or files.TEMPORARIES.fullmatch(path.name)):
            return False
    return True


def found(root: Path) -> Iterator[tuple[str, Path]]:
    """(stage, path) of all finished stages, small results and stages under way ("work") in a store;
    nothing else that lies there."""
    for stage in STAGES:
        for pair in files.children(root / stage) if is_folder(root / stage) else ():
            entries = files.children(pair) if is_folder(pair) else ()
            yield from ((stage, entry) for entry in entries if _is_entry(entry))
    if is_folder(root / WORK):
        yield from ((WORK, entry) for entry in files.children(root / WORK) if is_work(entry))


def _is_entry(path: Path) -> bool:
    named = _KEY.fullmatch(path.name) is not None and path.name.startswith(path.parent.name)
    return named and (is_folder(path) or is_file(path))


def is_work(path: Path) -> bool:
    return _UNDER_WAY.fullmatch(path.name) is not None and is_folder(path)


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def content(path: Path) -> bytes | None:
    """The content of a plain file; None where there is none."""
    with suppress(OSError):
        if is_file(path):
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
        if is_file(path):
            return sha256_file(path)
    return ""


# -- what gc asks of a file -----------------------------------------------------------------------


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
