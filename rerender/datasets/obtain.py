"""A data set brought here: from an address, an archive, a folder, or many addresses, and what it
hashes to."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rerender import files
from rerender.datasets.archive import ArchiveError, extract, kept
from rerender.datasets.download import Tell, download, sha256
from rerender.datasets.manifest import DatasetManifest
from rerender.errors import InputError
from rerender.exits import report
from rerender.run_folder import read_json


class Obtained(NamedTuple):
    """What was brought here.

    Attributes:
        sha256: of the archive; of all names and sums, where it is a folder or several files.
        files: sum of each file that has an address of its own.
        left_out: number of files of other kinds.
    """

    sha256: str
    files: Mapping[str, str]
    left_out: int


def from_archive(file: Path, expected: str | None, own: bool, fresh: Path) -> Obtained:
    """Verify and unpack an archive.

    Args:
        file: the archive.
        expected: its sha256; None where nobody says.
        own: whether it is the user's file, which is never removed.
        fresh: a new folder.

    Raises:
        ArchiveError: it is another one, damaged or hostile.
    """
    found = sha256(file)
    _require(file, found, expected, own)
    return Obtained(found, {}, extract(file, files.folder(fresh)))


def from_folder(source: Path, expected: str | None, fresh: Path) -> Obtained:
    """Copy a folder that somebody has unpacked, or cloned, already. Zips that lie in it are
    unpacked to the folder of their name, unless that is there too.

    Raises:
        InputError: there is nothing in it, or a link.
        ArchiveError: it is another one than expected, or a zip is damaged or hostile.
    """
    files.folder(fresh)
    sums, left_out = [], 0
    for path in sorted(source.rglob("*")):
        inside = PurePosixPath(path.relative_to(source).as_posix())
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.is_symlink():
            cure = "give a folder of plain files: cp -rL FOLDER COPY"
            raise InputError(path, "is a link, which might lead out of the data set", cure)
        if not path.is_file():
            continue
        packed = path.suffix.lower() == ".zip" and path.parent == source
        if packed and not path.with_suffix("").is_dir():
            left_out += _unpacked(path, fresh)
        elif packed or not kept(inside):
            left_out += 1
            continue
        else:
            files.copy(path, files.folder((fresh / inside).parent) / inside.name)
        sums.append(f"{inside} {sha256(path)}")
    if not sums:
        raise InputError(source, "holds no pictures, videos or tables", "name the right folder")
    found = _together(sums)
    _require(source, found, expected, own=True)
    return Obtained(found, {}, left_out)


def from_addresses(wanted: DatasetManifest, known: Mapping[str, str], work: Path) -> Obtained:
    """Fetch files that have addresses of their own, one after the other, into ``work/unpacked``;
    those that are there already are kept by later calls, and are verified again.

    Args:
        wanted: the data set.
        known: sha256 of files that the manifest does not state, by name.
        work: where finished and unfinished files lie meanwhile.

    Raises:
        ArchiveError: a file cannot be had, or is another one.
    """
    sums: dict[str, str] = {}
    for name, said in wanted.videos.items():
        suffix = PurePosixPath(urlsplit(str(said["url"])).path).suffix.lower() or ".mp4"
        target = work / f"{name}{suffix}"
        if not target.is_file():
            download(str(said["url"]), target, said.get("bytes"), tell())
        sums[name] = sha256(target)
        _require(target, sums[name], said.get("sha256") or known.get(name), own=False)
    for name in sums:
        path = next(path for path in work.iterdir() if path.is_file() and path.stem == name)
        files.copy(path, files.folder(work / "unpacked" / "videos") / path.name)
    return Obtained(_together([f"{name} {found}" for name, found in sums.items()]), sums, 0)


def locked(lock: Path, name: str) -> dict[str, Any]:
    """What the first fetch of a data set has written down, for sets whose makers state no sha256.

    Args:
        lock: the file; {} if there is none.
        name: of the data set.

    Raises:
        InputError: it is damaged, or of another data set.
    """
    if not lock.is_file():
        return {}
    said = read_json(lock)
    if said.get("name") != name or not isinstance(said.get("sha256"), str):
        cure = "restore it, or remove it to trust what comes next"
        raise InputError(lock, f"is no lock of {name}", cure)
    return said


def tell() -> Tell:
    """Says how far a download is, a line every few seconds."""
    last = [time.monotonic()]

    def tell(have: int, total: int | None) -> None:
        if time.monotonic() - last[0] > 5 or have == total:
            last[0] = time.monotonic()
            of = f" of {total / 1e6:.0f}" if total else ""
            report(f"{have / 1e6:.0f}{of} MB", "fetch")

    return tell


def _unpacked(archive: Path, fresh: Path) -> int:
    """Unpack a zip so that its content lies in the folder of its name; the number left out."""
    aside = fresh / f".{archive.stem}"
    left_out = extract(archive, files.folder(aside))
    inner = aside / archive.stem
    files.move(inner if inner.is_dir() else aside, fresh / archive.stem)
    files.remove(aside)
    return left_out


def _require(file: Path, found: str, expected: str | None, own: bool) -> None:
    if expected is None or found == expected.lower():
        return
    if not own:
        file.unlink()
    cure = "give the right archive" if own else "it was removed; run it again"
    raise ArchiveError(file, f"sha256 is {found[:12]}, expected {expected[:12]}", cure)


def _together(sums: list[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(sums)).encode()).hexdigest()
