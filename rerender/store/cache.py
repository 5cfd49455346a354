"""The stage store: what any run has finished, found again by what decides it.

``<root>/.rerender-store``
    says that this is a stage store.
``<root>/<stage>/<2 digits>/<key>/``
    the files of a finished stage and their manifest; a folder appears by one rename, whole.
``<root>/<stage>/<2 digits>/<key>``
    a small result, one file with its own checksum.
``<root>/writing/``
    small results before they take their names.
``<root>/work/<stage>-<key>/``
    a stage under way: a lock, and ``files/`` in which finished parts survive a kill.

Nothing is trusted for being there: a manifest holds the sha256 of every file and one of itself, and
what does not match is made again. A stage that a process has found is leased: no other one removes
it before it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rerender import files
from rerender.errors import ConfigError, ResourceError
from rerender.store import entries, removal
from rerender.store.entries import FILES, MANIFEST, STAGES, STATE, WORK, WRITING

log = logging.getLogger(__name__)

Facts = Mapping[str, Any]
__all__ = ["MANIFEST", "STATE", "WORK", "WRITING", "Cache", "Entry", "Facts", "Work", "key"]


@dataclass(frozen=True)
class Entry:
    """A finished stage. It stays where it is for as long as this lives.

    Attributes:
        folder: where its files are.
        facts: what its manifest says besides.
    """

    folder: Path
    facts: Facts
    lease: removal.Lease | None = field(default=None, repr=False, compare=False)

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
        files.sweep(folder)
        ended = entries.read(folder / MANIFEST, _label(target))
        if ended is not None:
            work = cls(folder, target, _sums=dict(ended.files))
            work.finish(ended.facts, tuple(ended.files))  # only its name was missing
            return work
        state = entries.read(folder / STATE, _label(target))
        if state is None:
            removal.empty(folder)
            return cls(folder, target)
        return cls(folder, target, state.facts, None, dict(state.files))

    def put(self, name: str, data: bytes) -> None:
        """Add a file, or put another in its place."""
        files.put(self.folder / name, data)
        self._sums[name] = hashlib.sha256(data).hexdigest()

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Add a file that is written piece by piece."""
        with files.writing(self.folder / name) as file:
            yield file
        self._sums[name] = entries.digest(self.folder / name)

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
        entries.write(self.folder / STATE, _label(self.target), facts, self._sums)
        self.facts = facts
        for name in without:
            files.remove(self.folder / name)

    def finish(self, facts: Facts, paths: tuple[str, ...]) -> Entry:
        """Turn some of the files into the finished stage; the others go."""
        sums = {name: self._sums[name] for name in paths}
        entries.write(self.folder / MANIFEST, _label(self.target), facts, sums)
        for path in files.children(self.folder):
            if path.name not in {MANIFEST, *paths}:
                files.remove(path)
        lease = removal.lease(self.folder / MANIFEST)
        removal.clear(self.target.parents[2], self.target)  # there may be a damaged one
        files.move(self.folder, self.target)
        self.entry = Entry(self.target, facts, lease)
        return self.entry


@dataclass(frozen=True)
class Cache:
    """A stage store; several processes may use one at the same time.

    Attributes:
        root: its folder, made when something is kept.
    """

    root: Path

    def check(self) -> None:
        """Refuse a folder that cannot be a stage store, without making anything.

        Raises:
            ConfigError: it holds other things, or a file has its name.
            ResourceError: it may not be written.
        """
        entries.check(self.root)
        files.check_writable(self.root, "store")

    def open(self) -> None:
        """Make the store, if it is not there, and see that it can be written to.

        Raises:
            ConfigError: the folder holds other things.
            ResourceError: it cannot be made or written to.
        """
        entries.check(self.root)
        try:
            files.put(self.root / entries.MARKER, entries.SIGNATURE)
        except (ConfigError, ResourceError) as error:
            problem = f"{error.where} {error.problem}"
            raise type(error)("store", problem, "choose another folder: store=PATH") from error
        self.tidy()

    def tidy(self) -> None:
        """Take away what processes of this machine left that were killed while they wrote."""
        removal.sweep_dead(self.root)

    def find(self, stage: str, key: str) -> Entry | None:
        """A finished stage, every file of which has its checksum."""
        place = files.unlinked(self.root, self._place(stage, key))
        lease = removal.lease(place / MANIFEST)
        manifest = entries.read(place / MANIFEST, _label(place)) if lease else None
        if manifest is None:
            return None
        files.touch(place / MANIFEST)
        return Entry(place, manifest.facts, lease)

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

        self._ready()
        target = files.unlinked(self.root, self._place(stage, key))
        place = files.unlinked(self.root, self.root / WORK / f"{stage}-{key}")
        with files.lock(place, waiting, ours=True):
            try:
                work = Work.resume(place / FILES, target)
                work.entry = work.entry or self.find(stage, key)
                yield work
            finally:
                if not (place / FILES).is_dir():
                    files.vacate(place)

    def under_way(self, stage: str, key: str, name: str) -> bytes | None:
        """A file of a stage that another process makes, which has said that this file is whole;
        None where it is not there (any more)."""
        folder = self.root / WORK / f"{stage}-{key}" / FILES
        return entries.content(files.unlinked(self.root, folder / name))

    def discard(self, stage: str, key: str) -> None:
        """Take away a finished stage that nobody uses."""
        removal.discard(self.root, self._place(stage, key))

    def get(self, stage: str, key: str) -> bytes | None:
        """A small result, or None where it is not there or damaged."""
        place = files.unlinked(self.root, self._place(stage, key))
        found = entries.content(place)
        if found is None:
            return None
        checksum, data = found[:32], found[32:]
        if _checksum(place, data) != checksum:
            log.warning("%s: damaged or of another version, made again", place)
            return None
        files.touch(place)
        return data

    def put(self, stage: str, key: str, data: bytes) -> None:
        """Keep a small result."""
        self._ready()
        place = files.unlinked(self.root, self._place(stage, key))
        room = files.unlinked(self.root, self.root / WRITING)
        if place.is_dir():
            removal.clear(self.root, place)
        files.put(place, _checksum(place, data) + data, room)

    def remove(self) -> None:
        """Take away the whole store, but for what is not of it or in use."""
        if entries.is_store(self.root):
            for stage, path in list(entries.found(self.root)):
                removal.take_away(self.root, stage, path)
            removal.fold(self.root)

    def _ready(self) -> None:
        """A folder is marked as a stage store before anything is kept in it."""
        if entries.content(self.root / entries.MARKER) != entries.SIGNATURE:
            self.open()

    def _place(self, stage: str, key: str) -> Path:
        assert stage in STAGES, f"unknown stage {stage}"
        return self.root / stage / key[:2] / key


def _label(place: Path) -> str:
    """Whose a manifest is."""
    return f"{place.parent.parent.name}/{place.name}"


def _checksum(place: Path, data: bytes) -> bytes:
    return hashlib.sha256(_label(place).encode() + b"\0" + data).digest()


def key(**deciding: Any) -> str:
    """The key of a stage: a hash of everything that decides its result.

    Args:
        deciding: plain values (numbers, texts, lists, mappings).
    """
    text = json.dumps(deciding, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
