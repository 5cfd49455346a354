"""The clips of the studio: what was uploaded, each in a folder named after its content."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from asyncio import to_thread
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rerender import files
from rerender.codec import SUFFIXES, open_video
from rerender.data import picture
from rerender.errors import InputError
from rerender.fitting import resize
from rerender.run_folder import read_json
from rerender.video import sha256_of

ID = re.compile(r"[0-9a-f]{16}")
FACTS = "clip.json"
_LONGEST = 60  # characters of a file's name
_MASK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ClipFile:
    """A clip of the studio.

    Attributes:
        id: of its content.
        path: the file, for the command line.
        facts: what the page is told: name, frames, rate, width, height, bytes.
    """

    id: str
    path: Path
    facts: dict[str, Any]


class ClipFolder:
    """The uploaded clips, and the masks painted on them.

    Args:
        root: their folder.
        largest: bytes of an upload.
    """

    def __init__(self, root: Path, largest: int) -> None:
        self._root, self._largest = root, largest

    async def add(self, name: str, size: int | None, data: AsyncIterator[bytes]) -> ClipFile:
        """Keep an upload, once it is known to be a video.

        Args:
            name: what the browser calls it; only letters, digits and the ending of it are kept.
            size: bytes that are announced.
            data: its content.

        Raises:
            TooLargeError: more than the limit, announced or sent.
            InputError: no video, a damaged one, or one of a kind that is not opened.
        """
        safe = safe_name(name)
        self._check(size or 0, safe)
        total, digest = 0, hashlib.sha256()
        _tidy(self._root)
        inbox = files.folder(self._root / files.temporary_name())
        try:
            with files.writing(inbox / safe) as file:
                async for block in data:
                    total += len(block)
                    self._check(total, safe)
                    digest.update(block)
                    file.write(block)
            return await to_thread(self._settle, inbox, safe, name, digest.hexdigest()[:16])
        finally:
            files.remove(inbox)

    def _check(self, size: int, name: str) -> None:
        if size > self._largest:
            limit = f"is larger than {self._largest / 2**20:.0f} MiB"
            raise TooLargeError(name, limit, "cut it, or start the studio with --largest MIB")

    def _settle(self, inbox: Path, safe: str, name: str, id: str) -> ClipFile:
        """Look at an upload and give it its place; the same content is the same clip."""
        if self._known(id):
            return self.clip(id)
        try:
            video = open_video(inbox / safe)
        except InputError as error:
            raise InputError(safe, error.problem, error.cure) from error
        (height, width), times = video.size, video.timestamps
        facts = {
            "name": _printable(name),
            "file": safe,
            "frames": len(times),
            "rate": round(len(times) / max(float(video.end - times[0]), 1e-3), 3),
            "width": width,
            "height": height,
            "bytes": (inbox / safe).stat().st_size,
        }
        files.put_json(inbox / FACTS, facts)
        if not self._known(id):
            files.move(inbox, self._root / id)
        return self.clip(id)

    def _known(self, id: str) -> bool:
        return (self._root / id / FACTS).is_file()

    def all(self) -> list[ClipFile]:
        """All clips, the newest first."""
        found: list[tuple[float, str]] = []
        for place in files.children(self._root):
            with suppress(FileNotFoundError, NotADirectoryError):  # an upload that is under way
                if ID.fullmatch(place.name):
                    found.append((-(place / FACTS).stat().st_mtime, place.name))
        return [self.clip(name) for _, name in sorted(found)]

    def clip(self, id: str) -> ClipFile:
        """One of them.

        Raises:
            InputError: there is none of this name.
        """
        if not ID.fullmatch(id) or not self._known(id):
            raise InputError("clip", f"there is no {id[:40]!r}", "upload it")
        facts = read_json(self._root / id / FACTS)
        return ClipFile(id, self._root / id / safe_name(str(facts["file"])), facts)

    def add_mask(self, id: str, data: bytes) -> str:
        """Keep a painted mask, white where the clip is restyled; returns its name.

        Raises:
            InputError: it is no picture, of another shape than the clip, or white nowhere.
        """
        self.clip(id)
        if len(data) > _MASK_BYTES:
            raise TooLargeError(
                "mask", f"is larger than {_MASK_BYTES / 2**20:.0f} MiB", "paint less"
            )
        name = hashlib.sha256(data).hexdigest()[:16]
        room = files.folder(files.unlinked(self._root, self._root / id / "masks"))
        _tidy(room)
        draft = room / files.temporary_name()
        files.put(draft, data)
        try:
            image = picture.read(draft).image.mean(0, keepdim=True)
            height, width = self._size(id)
            if abs(image.shape[2] * height / (image.shape[1] * width) - 1) > 0.02:
                raise InputError("mask", "has another shape than the clip", "paint it again")
            if not bool((image > 0.5).any()):
                raise InputError("mask", "is empty", "paint what is to be restyled")
            files.put(room / f"{name}.png", files.png(image))
        except InputError as error:
            raise InputError("mask", error.problem, error.cure) from error
        finally:
            files.remove(draft)
        return name

    def add_keys(self, id: str, keys: Mapping[int, Path], number: int, data: bytes) -> str:
        """Keep the key frames of a run with a painted one among them, in the place of one or beside
        them, all at the size of the clip; returns their name.

        Args:
            id: of the clip.
            keys: pictures of all key frames of the run, by their frames in its stretch.
            number: of the frame that is painted.
            data: its new picture.

        Raises:
            InputError: it is no picture, or of another shape than the clip.
        """
        room = self.clip(id).path.parent / "keys"
        files.folder(files.unlinked(self._root, room))
        _tidy(room)
        draft = room / files.temporary_name()
        files.put(draft, data)
        try:
            found = picture.read(draft).image
            height, width = self._size(id)
            if abs(found.shape[2] * height / (found.shape[1] * width) - 1) > 0.02:
                problem = f"is {found.shape[2]}x{found.shape[1]}, the clip is {width}x{height}"
                raise InputError("key frame", problem, "mend the one that the page saves")
            mended = files.png(resize(found, (height, width)))
        except InputError as error:
            raise InputError("key frame", error.problem, error.cure) from error
        finally:
            files.remove(draft)
        pictures = {
            each: self.shaped(id, picture.read(path).image)
            for each, path in keys.items()
            if each != number
        }
        pictures[number] = mended
        named = [b"%d %s" % (each, sha256_of(pictures[each]).encode()) for each in sorted(pictures)]
        name = sha256_of(*named)[:16]
        if not (room / name).is_dir():
            whole = room / files.temporary_name()
            for each, content in pictures.items():
                files.put(whole / f"{each:06d}.png", content)
            files.move(whole, room / name)
        return name

    def shaped(self, id: str, image: Tensor) -> bytes:
        """A picture ``[3,H,W]`` in 0..1 as a PNG at the size of the clip; sizes of models miss its
        shape a little."""
        return files.png(resize(image, self._size(id)))

    def _size(self, id: str) -> tuple[int, int]:
        facts = self.clip(id).facts
        return facts["height"], facts["width"]

    def keys(self, id: str, name: str) -> Path:
        """The folder of mended key frames.

        Raises:
            InputError: there is none of this name.
        """
        path = self.clip(id).path.parent / "keys" / name
        if not ID.fullmatch(name) or not path.is_dir():
            raise InputError("key frames", f"there are no {name[:40]!r}", "mend them again")
        return path

    def mask(self, id: str, name: str) -> Path:
        """The file of a mask.

        Raises:
            InputError: there is none of this name.
        """
        path = self.clip(id).path.parent / "masks" / f"{name}.png"
        if not ID.fullmatch(name) or not path.is_file():
            raise InputError("mask", f"there is no {name[:40]!r}", "paint it again")
        return path


def _tidy(room: Path) -> None:
    """Take away what a studio that was killed left: uploads and pictures it had not settled."""
    for path in files.dead(room):
        files.remove(path)


class TooLargeError(InputError):
    """An upload is over the limit."""


def safe_name(name: str) -> str:
    """The name of a file as it is kept: letters, digits, - and _, and the ending of a video.

    Raises:
        InputError: it has no such ending.
    """
    base = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    suffix = f".{ending.lower()}" if dot else ""
    if suffix not in SUFFIXES:
        raise InputError(
            _printable(base) or "upload", "is no video file", "give an mp4, mov, mkv or webm"
        )
    kept = re.sub(r"[^\w-]+", "-", stem).strip("-")[:_LONGEST]
    return (kept or "clip") + suffix


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:120]
