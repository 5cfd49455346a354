"""Archives from elsewhere, unpacked by our own rules: regular files and folders, nothing else.

The filters of ``tarfile`` are not relied on (several Python releases have broken ones). Every
entry is checked before a byte of it is written, and what does not fit refuses the whole archive.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, ClassVar, cast

from rerender import files
from rerender.errors import RerenderError

KEPT = (
    ".png .jpg .jpeg .webp .bmp .tif .tiff .ppm .mp4 .m4v .mov .mkv .webm .avi .gif .mpg .mpeg "
    ".txt .md .csv .json .yaml .yml .xml"
)
PLAIN_NAMES = ("license", "licence", "readme", "copying", "notice", "sources", "version")
PROGRAMS = ".py .pyc .pth .pt .pkl .pickle .ckpt .so .dll .dylib .exe .sh .bat .cmd .ps1 .js .jar"
_BLOCK = 1 << 20


class ArchiveError(RerenderError):
    """An archive cannot be had, or is not what it should be (exit code 4)."""

    exit_code: ClassVar[int] = 4


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        entries: files and folders.
        bytes: of all files, unpacked.
        ratio: unpacked bytes for each byte of the archive, beyond the slack.
        slack: bytes that are fine whatever the archive's size.
        name: bytes of one part of a path.
        depth: parts of a path.
    """

    entries: int = 200_000
    bytes: int = 200_000_000_000
    ratio: int = 100
    slack: int = 16 << 20
    name: int = 200
    depth: int = 16


@dataclass
class _Entry:
    """One entry as its format describes it; ``open`` gives its content."""

    name: str
    folder: bool
    size: int
    problem: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass
class _Guard:
    """Checks entries one after the other."""

    archive: Path
    limits: Limits
    total: int = 0
    seen: dict[str, bool] = field(default_factory=dict)

    def admit(self, entry: _Entry) -> PurePosixPath:
        """The path of an entry, checked."""
        problem = entry.problem or self._name(entry.name) or self._amount(entry)
        path = PurePosixPath(entry.name.rstrip("/"))
        problem = problem or self._place(path, entry.folder)
        if problem:
            raise self.refusal(f"entry {entry.name[:120]!r} {problem}")
        return path

    def refusal(self, problem: str) -> ArchiveError:
        return ArchiveError(self.archive, problem, "get the archive from its makers again")

    def _name(self, name: str) -> str:
        bare = name.rstrip("/")
        parts = bare.split("/")
        if not bare or name.startswith("/") or "\\" in name or ":" in parts[0]:
            return "is not a path inside the archive"
        if any(part in ("", ".", "..") for part in parts):
            return "leaves the archive's folder"
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            return "has control characters in its name"
        if len(parts) > self.limits.depth or max(map(_bytes, parts)) > self.limits.name:
            return "has a longer name than is allowed"
        suffix = PurePosixPath(bare).suffix.lower()
        return "is a program" if suffix in PROGRAMS.split() else ""

    def _amount(self, entry: _Entry) -> str:
        if entry.size < 0:
            return "has a negative size"
        self.total += entry.size
        if len(self.seen) >= self.limits.entries:
            return f"is one more than the {self.limits.entries} that are allowed"
        most = self.limits.ratio * self.archive.stat().st_size + self.limits.slack
        if self.total > min(most, self.limits.bytes):
            return f"makes it unpack to more than {min(most, self.limits.bytes)} bytes"
        return ""

    def _place(self, path: PurePosixPath, folder: bool) -> str:
        """Names that are one on some disk may not be two entries; files hold no files."""
        key = _folded(path)
        if key in self.seen and not (folder and self.seen[key]):
            return "is there twice"
        for parent in path.parents:
            if self.seen.get(_folded(parent)) is False:
                return "lies inside a file"
        self.seen[key] = folder
        return ""


def extract(archive: Path, target: Path, limits: Limits | None = None) -> int:
    """Unpack a zip, tar, tar.gz or tar.bz2 archive.

    Pictures, videos and texts are written; files of other kinds are left out, programs refuse the
    archive. What was written by then stays, so unpack into a folder that is thrown away.

    Args:
        archive: the file.
        target: a new folder.
        limits: how much it may hold.

    Returns:
        The number of files that were left out.

    Raises:
        ArchiveError: it is damaged, encrypted, too large, or an entry is not a plain file or
            folder with a plain name of its own.
        ResourceError: the disk is full.
    """
    guard = _Guard(archive, limits or Limits())
    left_out = 0
    try:
        for entry in _entries(archive, guard):
            path = guard.admit(entry)
            if entry.folder:
                continue
            if kept(path):
                _write(entry, target / path, guard)
            else:
                left_out += 1
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise guard.refusal(f"is damaged ({' '.join(str(error).split())})") from error
    except (NotImplementedError, RuntimeError) as error:  # of zipfile: methods, encryption
        raise guard.refusal(f"cannot be unpacked ({error})") from error
    except OSError as error:
        # Of gzip and bz2; an archive that sends its reader to a place before its start says EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise guard.refusal(f"is damaged ({error})") from error
    return left_out


def _write(entry: _Entry, path: Path, guard: _Guard) -> None:
    left = entry.size
    with entry.open() as source, files.writing(path) as file:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                break
            file.write(block)
        if left != 0:
            raise guard.refusal(f"entry {entry.name[:120]!r} is not as long as it says")


def kept(path: PurePosixPath) -> bool:
    """Whether a file is of a kind that is written: a picture, a video or a text."""
    if path.name.startswith((".", "._")) or "__MACOSX" in path.parts:
        return False
    return path.suffix.lower() in KEPT.split() or path.name.lower() in PLAIN_NAMES


def _entries(archive: Path, guard: _Guard) -> Iterator[_Entry]:
    with archive.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        yield from _zip(archive, guard)
        return
    with _unpacked(archive, start) as stream:
        yield from _tar(stream, guard)


def _unpacked(archive: Path, start: bytes) -> IO[bytes]:
    """What a tar archive holds once its compression, if any, is undone."""
    if start[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(archive))
    return bz2.BZ2File(archive) if start[:3] == b"BZh" else archive.open("rb")


def _zip(archive: Path, guard: _Guard) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        if sum(info.compress_size for info in infos) > archive.stat().st_size:
            raise guard.refusal("has entries that share their bytes")
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            folder = info.is_dir()
            problem = ""
            if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
                problem = "is neither a file nor a folder"
            elif info.flag_bits & 1:
                problem = "is encrypted"
            elif "\0" in info.orig_filename:
                problem = "has control characters in its name"
            yield _Entry(info.filename, folder, info.file_size, problem, _member(opened, info))


def _member(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Callable[[], AbstractContextManager[IO[bytes]]]:
    return lambda: opened.open(info)


class _Capped:
    """A stream that refuses to give more than so many bytes; headers count too."""

    def __init__(self, stream: IO[bytes], guard: _Guard) -> None:
        most = guard.limits.ratio * guard.archive.stat().st_size + 2 * guard.limits.slack
        self._stream, self._guard, self._left = stream, guard, most

    def read(self, count: int) -> bytes:
        block = self._stream.read(min(count, self._left + 1))
        self._left -= len(block)
        if self._left < 0:
            raise self._guard.refusal("unpacks to far more than it holds")
        return block


def _tar(stream: IO[bytes], guard: _Guard) -> Iterator[_Entry]:
    capped = _Capped(stream, guard)
    with tarfile.open(fileobj=capped, mode="r|") as opened:  # type: ignore[call-overload]
        for info in opened:
            plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
            problem = "" if plain else "is neither a file nor a folder"
            name = info.name.removeprefix("./") or "."
            if info.isdir() and name == ".":
                continue
            yield _Entry(name, info.isdir(), info.size, problem, _streamed(opened, info))


def _streamed(
    opened: tarfile.TarFile, info: tarfile.TarInfo
) -> Callable[[], AbstractContextManager[IO[bytes]]]:
    def content() -> IO[bytes]:
        found = opened.extractfile(info)
        if found is None:
            raise tarfile.ReadError(f"{info.name} has no content")
        return found

    return content


def _bytes(part: str) -> int:
    with suppress(UnicodeEncodeError):
        return len(part.encode())
    return 1 << 30


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
