"""The stage store: what any run has finished, found again by what decides it.

``<root>/<stage>/<2 digits>/<key>/``
    the files of a finished stage and their manifest; a folder appears by one rename, whole.
``<root>/<stage>/<2 digits>/<key>``
    a small result, one file with its own checksum.
``<root>/writing/``
    small results before they take their names.
``<root>/work/<stage>-<key>/``
    a stage under way: a lock, and ``files/`` in which finished parts survive a kill.

Nothing is trusted for being there: manifests hold the sha256 of every file, and what does not
match is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rerender import store
from rerender.video import sha256_file

log = logging.getLogger(__name__)

MANIFEST, STATE, WORK, WRITING = "manifest.json", "state.json", "work", "writing"
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A finished stage.

    Attributes:
        folder: where its files are.
        facts: what its manifest says besides.
    """

    folder: Path
    facts: Facts

    def read(self, name: str) -> bytes:
        """The content of one of its files."""
        return (self.folder / name).read_bytes()


@dataclass
class Work:
    """A stage under way, in a folder that this process has to itself.

    Files count from the next `commit` on; after a kill the stage goes on from the last one.

    Attributes:
        folder: where its files are.
        facts: what the last commit said; empty at the beginning.
    """

    folder: Path
    target: Path
    facts: Facts = field(default_factory=dict)
    entry: Entry | None = None
    _sums: dict[str, str] = field(default_factory=dict)

    @classmethod
    def resume(cls, folder: Path, target: Path) -> Work:
        """What an earlier process left, or nothing where that is damaged."""
        store.sweep(folder)
        ended = _manifest(folder / MANIFEST)
        if ended is not None and _intact(folder, ended["files"]):
            work = cls(folder, target, _sums=dict(ended["files"]))
            work.finish(ended["facts"], tuple(ended["files"]))  # only its name was missing
            return work
        state = _manifest(folder / STATE)
        if state is None or not _intact(folder, state["files"]):
            if state is not None:
                log.warning("%s: damaged, its stage starts again", folder)
            store.remove(folder)
            return cls(folder, target)
        return cls(folder, target, state["facts"], None, dict(state["files"]))

    def put(self, name: str, data: bytes) -> None:
        """Add a file, or put another in its place."""
        store.put(self.folder / name, data)
        self._sums[name] = hashlib.sha256(data).hexdigest()

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Add a file that is written piece by piece."""
        with store.writing(self.folder / name) as file:
            yield file
        self._sums[name] = _sum(self.folder / name)

    def read(self, name: str) -> bytes:
        """The content of one of its files."""
        return (self.folder / name).read_bytes()

    def commit(self, facts: Facts, without: tuple[str, ...] = ()) -> None:
        """What is there now is what a later attempt goes on from.

        Args:
            facts: what it has to know besides.
            without: files that are not needed any more; they are removed afterwards.
        """
        for name in without:
            self._sums.pop(name, None)
        store.put_json(self.folder / STATE, {"facts": dict(facts), "files": self._sums})
        self.facts = facts
        for name in without:
            store.remove(self.folder / name)

    def finish(self, facts: Facts, files: tuple[str, ...]) -> Entry:
        """Turn some of the files into the finished stage; the others go."""
        sums = {name: self._sums[name] for name in files}
        store.put_json(self.folder / MANIFEST, {"facts": dict(facts), "files": sums})
        for path in sorted(self.folder.iterdir()):
            if path.name not in {MANIFEST, *files}:
                store.remove(path)
        store.remove(self.target)  # there may be a damaged one
        store.move(self.folder, self.target)
        self.entry = Entry(self.target, facts)
        return self.entry


@dataclass(frozen=True)
class Cache:
    """A stage store; several processes may use one at the same time.

    Attributes:
        root: its folder, made when something is kept.
    """

    root: Path

    def find(self, stage: str, key: str) -> Entry | None:
        """A finished stage, every file of which has its checksum; damaged ones are taken away."""
        place = self._place(stage, key)
        manifest = _manifest(place / MANIFEST)
        if manifest is None:
            return None
        if not _intact(place, manifest["files"]):
            log.warning("%s: damaged, its stage is made again", place)
            store.remove(place)
            return None
        store.touch(place / MANIFEST)
        return Entry(place, manifest["facts"])

    def has(self, stage: str, key: str) -> bool:
        """Whether a finished stage or small result seems to be there; it is not read."""
        place = self._place(stage, key)
        return place.is_file() or (place / MANIFEST).is_file()

    @contextmanager
    def making(self, stage: str, key: str) -> Iterator[Work]:
        """Make a stage, alone among all processes; waits for another one that makes the same.

        ``work.entry`` is the finished stage where the other one has made it.
        """

        def waiting(owner: str) -> None:
            log.warning("%s: the same is being made by %s; waiting for it", stage, owner)

        place = self.root / WORK / f"{stage}-{key}"
        with store.lock(place, waiting):
            try:
                work = Work.resume(place / "files", self._place(stage, key))
                work.entry = work.entry or self.find(stage, key)
                yield work
            finally:
                if not (place / "files").is_dir():
                    store.vacate(place)

    def get(self, stage: str, key: str) -> bytes | None:
        """A small result, or None where it is not there or damaged."""
        place = self._place(stage, key)
        try:
            found = place.read_bytes()
        except OSError:
            return None
        checksum, data = found[:32], found[32:]
        if hashlib.sha256(data).digest() != checksum:
            log.warning("%s: damaged, made again", place)
            return None
        store.touch(place)
        return data

    def put(self, stage: str, key: str, data: bytes) -> None:
        """Keep a small result."""
        data = hashlib.sha256(data).digest() + data
        store.put(self._place(stage, key), data, self.root / WRITING)

    def tidy(self) -> None:
        """Take away what processes of this machine left that were killed while they wrote."""
        store.sweep_dead(self.root / WRITING)

    def _place(self, stage: str, key: str) -> Path:
        return self.root / stage / key[:2] / key


def key(**deciding: Any) -> str:
    """The key of a stage: a hash of everything that decides its result.

    Args:
        deciding: plain values (numbers, texts, lists, mappings).
    """
    text = json.dumps(deciding, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _manifest(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.keys() == {"facts", "files"}:
            return found
    return None


def _intact(folder: Path, sums: Mapping[str, str]) -> bool:
    return all(_sum(folder / name) == expected for name, expected in sums.items())


def _sum(path: Path) -> str:
    """The sha256 of a file; "" where it cannot be read."""
    with suppress(OSError):
        return sha256_file(path)
    return ""
