"""How a command ends: the exit code and the one line that goes with it.

0 done, 2 configuration, 3 input, 4 weights, 5 disk or memory, 6 part of a sweep failed,
70 a bug of ours, 75 locked by another process, 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import errno
import io
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from rerender.build import missing_library
from rerender.errors import RerenderError, ResourceError

BUG, INTERRUPTED, TERMINATED = 70, 130, 143
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


class Failure(NamedTuple):
    """How a job failed: its exit code and what to say."""

    code: int
    message: str


def failure(error: BaseException) -> Failure:
    """The exit code of an error and its line."""
    known = _known(error)
    if known is not None:
        return Failure(known.exit_code, str(known))
    if isinstance(error, KeyboardInterrupt):
        return Failure(INTERRUPTED, "stopped by the user; the same command goes on from there")
    if isinstance(error, Terminated):
        return Failure(TERMINATED, "stopped by a signal; the same command goes on from there")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" at {Path(place[0].filename).name}:{place[0].lineno}" if place else ""
    return Failure(BUG, f"rerender: {what}{where}; please report it with the output of debug=true")


def _known(error: BaseException) -> RerenderError | None:
    if isinstance(error, RerenderError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        cure = "lower data.size or sampling.lanes, or take model.dtype=float16"
        return ResourceError("memory", " ".join(str(error).split())[:200] or "ran out", cure)
    if isinstance(error, BrokenPipeError):
        cure = "read it to its end, or send it to a file"
        return ResourceError("output", "who was reading it has gone", cure)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        reason = (error.strerror or str(error)).lower()
        return ResourceError(error.filename or "disk", reason, "free some space, then start again")
    return missing_library(error) if isinstance(error, ImportError) else None


def report(message: str, kind: str = "error") -> None:
    """Say one line on standard error; control characters do not reach the terminal."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    sys.stderr.write(f"{kind}: {line}\n")
    sys.stderr.flush()


def printable() -> None:
    """Have characters that the terminal's encoding lacks replaced by ``?`` instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the program like Ctrl-C does while the block runs. Every command is inside
    such a block, so that here its words are made ones that any terminal can show."""
    printable()

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: the one who is there decides
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
