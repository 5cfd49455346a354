"""Bytes that need not outlive the process."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rerender.files.explain import explained
from rerender.files.moves import remove
from rerender.files.temporaries import dead, temporary_name


class Scratch:
    """Bytes on disk for as long as this lives: one file without a name, in the system's folder for
    temporary files (``TMPDIR``), which vanishes with the process however that ends.

    Raises:
        ResourceError: the file cannot be made.
    """

    def __init__(self) -> None:
        self._place = Path(tempfile.gettempdir())
        with explained(self._place):
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as this
        weakref.finalize(self, self._file.close)
        self._end = 0

    def write(self, data: bytes, place: int | None = None) -> int:
        """Keep bytes and return their place.

        Args:
            data: what to keep.
            place: of equally many bytes to write over; None takes fresh room.

        Raises:
            ResourceError: the disk is full or fails.
        """
        start = self._end if place is None else place
        rest = memoryview(data)
        with explained(self._place):
            while rest:  # a write may be cut short
                written = os.pwrite(self._file.fileno(), rest, start + len(data) - len(rest))
                rest = rest[written:]
        self._end = max(self._end, start + len(data))
        return start

    def read(self, place: int, size: int) -> bytes:
        """The ``size`` bytes kept at a place."""
        found = b""
        while len(found) < size:
            part = os.pread(self._file.fileno(), size - len(found), place + len(found))
            if not part:
                raise ValueError(f"nothing is kept at {place}+{size}")
            found += part
        return found


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this process alone for what libraries and programs write to paths only, in the
    system's folder for temporary files; it vanishes with the block. Those of processes that were
    killed are taken away.

    Raises:
        ResourceError: it cannot be made.
    """
    room = Path(tempfile.gettempdir())
    for path in dead(room):
        with suppress(OSError):  # another process has taken it away
            if path.lstat().st_uid == os.getuid():
                remove(path)
    place = room / temporary_name()
    with explained(place):
        place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        remove(place)
