"""A sequence of picture files as a Video."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from rerender.data import picture
from rerender.data.names import irregular, listed, pictures_of, said, unseen
from rerender.errors import ConfigError, InputError
from rerender.video import Video, sha256_of

_KEPT = 8
log = logging.getLogger(__name__)


class Pictures(Video):
    """Frames from picture files, turned as their EXIF tag says.

    What reading them reduces or decides is warned of, once for all of them.

    Args:
        files: one picture for each frame, in order.
        rate: frames per second.
        start: first frame.
        frames: number of frames; None means to the end.

    Raises:
        ConfigError: the window is not inside the sequence.
        InputError: a picture is damaged or of another size than the first.
    """

    def __init__(
        self, files: Sequence[Path], rate: float, start: int = 0, frames: int | None = None
    ) -> None:
        total = len(files)
        stop = total if frames is None else start + frames
        if not 0 <= start < stop <= total:
            key = "data.start" if start >= total else "data.frames"
            problem = (
                f"frames {start} to {stop - 1} are not in {files[0].parent}, which has {total}"
            )
            raise ConfigError(key, problem, "choose others")
        self._files = tuple(files[start:stop])
        self._rate = exact_rate(rate)
        self._read = lru_cache(_KEPT)(lambda index: picture.read(self._files[index]))
        self._noted: dict[str, list[str]] = {}
        self._deep = False
        self._size = self._checked()

    @classmethod
    def of(
        cls,
        folder: Path,
        rate: float,
        start: int = 0,
        frames: int | None = None,
        table: Path | None = None,
    ) -> Pictures:
        """The pictures of a folder as frames that follow each other.

        What else lies there is passed over with a warning, but for a ``table`` of prompts; gaps in
        the numbers are closed up with one.

        Raises:
            ConfigError, InputError: as for the class, or the order of the names is not clear.
        """
        chosen = pictures_of(folder)
        result = cls(chosen, rate, start, frames)
        others = [path for path in listed(folder) if path not in set(chosen)]
        passed_over(folder, (path for path in others if not same(path, table)))
        if odd := irregular(result._files):
            log.warning("%s: %s; frames follow each other in order of name", folder, odd)
        return result

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @property
    def timestamps(self) -> Sequence[Fraction]:
        return tuple(index / self._rate for index in range(len(self._files)))

    @property
    def end(self) -> Fraction:
        return len(self._files) / self._rate

    @property
    def numbers(self) -> list[int] | None:
        """The last number in each file's name; None where one has none, or they do not increase."""
        found = [re.findall(r"\d+", file.stem, re.ASCII) for file in self._files]
        numbers = [int(each[-1]) for each in found if each]
        increasing = all(one < other for one, other in pairwise(numbers))
        return numbers if len(numbers) == len(found) and increasing else None

    def digest(self) -> str:
        contents = (file.read_bytes() for file in self._files)
        # Until transparency was composited, the same files gave other frames.
        more = [picture.CLEAR.encode()] if picture.CLEAR in self._noted else []
        more += [b"16 bits"] if self._deep else []  # until then, 8 of them were kept
        return sha256_of(str(self._rate).encode(), *contents, *more)

    @property
    def transparent(self) -> bool:
        return picture.CLEAR in self._noted

    def alpha(self, index: int) -> Tensor:
        found = self._read(range(len(self))[index]).alpha
        return super().alpha(index) if found is None else found

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self._files):
            raise IndexError(f"frame {index} of {len(self._files)}")
        return self._read(index).image

    def _checked(self) -> tuple[int, int]:
        """Decode every picture once, so that a damaged one is found before anything starts."""
        height, width = self._read(0).image.shape[-2:]
        for index, file in enumerate(self._files):
            read = self._read(index)
            self._deep |= read.deep
            found = read.image.shape[-2:]
            if found != (height, width):
                problem = f"is {found[1]}x{found[0]}, {self._files[0].name} is {width}x{height}"
                raise InputError(file, problem, "give frames of one size")
            for note in read.notes:
                self._noted.setdefault(note, []).append(file.name)
        for note in filter(self._noted.get, picture.NOTES):
            names, total = self._noted[note], len(self._files)
            folder = self._files[0].parent
            log.warning(
                "%s: %d of %d pictures have %s (%s)", folder, len(names), total, note, said(names)
            )
        return height, width


def same(path: Path, other: Path | None) -> bool:
    """Whether two paths lead to one file that is there, or will where folders of the second are
    made first (``new/../file``)."""
    if other is None:
        return False
    with suppress(OSError):
        if path.samefile(other):
            return True
    return path.exists() and os.path.realpath(path) == os.path.realpath(other)


def passed_over(folder: Path, paths: Iterable[Path], what: str = "pictures") -> None:
    """Warn of files and folders that are not used, in one line; hidden ones are not said."""
    names = sorted(path.name + "/" * path.is_dir() for path in paths if not unseen(path))
    if names:
        log.warning("%s: passed over: %s (%s are used)", folder, said(names), what)


def exact_rate(rate: float) -> Fraction:
    """The frame rate that a decimal number means: 23.976 is 24000/1001."""
    broadcast = Fraction(round(rate) * 1000, 1001)
    if rate != round(rate) and abs(broadcast - Fraction(rate)) < rate * 2e-4:
        return broadcast
    return Fraction(rate).limit_denominator(1000)
