"""What inspections of containers read from and answer with."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, NamedTuple


class Whole(NamedTuple):
    """What the structure of a file tells.

    Attributes:
        problem: what is damaged or missing, None where nothing is.
        known: whether it would be known if the file had been cut off.
        summed: whether checksums cover its pictures.
    """

    problem: str | None
    known: bool
    summed: bool = False


class DamageError(Exception):
    """A place where a file breaks the rules of its container, in words."""

    @classmethod
    def cut(cls, what: str) -> DamageError:
        """The file ends before something that it holds."""
        return cls(f"the file is cut off ({what})")

    @classmethod
    def at(cls, place: int, what: str) -> DamageError:
        """Something else than the rules ask for is at a byte."""
        return cls(f"is damaged at byte {place} ({what})")


class Bytes:
    """A file by ranges of bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, place: int, count: int) -> bytes:
        """Up to ``count`` bytes from a place; fewer at the end of the file."""
        self._file.seek(place)
        return self._file.read(max(min(count, self.size - place), 0))

    def number(self, place: int, count: int, order: str = "big") -> int:
        """An unsigned integer.

        Raises:
            DamageError: the file ends within it.
        """
        data = self.read(place, count)
        if len(data) < count:
            raise DamageError.cut(f"within a number at byte {place}")
        return int.from_bytes(data, "little" if order == "little" else "big")

    def stream(self) -> io.BufferedIOBase:
        """The file from its start."""
        self._file.seek(0)
        assert isinstance(self._file, io.BufferedIOBase)
        return self._file
