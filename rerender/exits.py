"""How a command ends: the exit code, and the one line that goes with it.

0 done, 2 configuration, 3 input, 4 weights, 5 disk or memory, 6 part of a sweep failed,
70 a bug of ours, 75 locked by another process, 130 and 143 stopped by a signal.

Every command is a function inside `command`, so that all of them end alike.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, NoReturn, TextIO

from rerender.config.build import missing_library
from rerender.errors import ConfigError, InputError, RerenderError, ResourceError

BUG, INTERRUPTED, TERMINATED = 70, 130, 143
_DEBUG = ("debug=true", "--debug")
_SYSTEM = {  # what the operating system refuses, and what helps
    errno.ENOSPC: "free some space, then start again",
    errno.EDQUOT: "free some of your quota, then start again",
    errno.EFBIG: "raise the file size limit (ulimit -f), then start again",
    errno.EROFS: "write to a folder that is not read-only",
    errno.EIO: "check the disk, then start again",
    errno.EMFILE: "raise the number of open files (ulimit -n), then start again",
    errno.ENFILE: "close other programs, then start again",
    errno.EAGAIN: "end other programs or raise the number of processes (ulimit -u)",
    errno.EACCES: "make it readable and writable for you",
    errno.EPERM: "make it readable and writable for you",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ESTALE: "mount its disk again, then start again",
    errno.ENOLCK: "choose a disk that can lock files",
    errno.EEXIST: "another program has made it meanwhile; look at it, then start again",
    errno.ENOTEMPTY: "another program has written to it meanwhile; look at it, then start again",
}
_LACKING = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # of a file that is named
# How libraries say that memory ran out: torch on the processor and on accelerators, oneDNN, C++,
# NumPy, OpenCV, the operating system.
_MEMORY = (
    "out of memory",
    "allocate memory",
    "could not create a primitive",
    "could not create a memory object",
    "bad_alloc",
    "bad allocation",
    "insufficient memory",
    "not enough memory",
    "unable to allocate",
    "failed to allocate",
    "alloc_failed",
    "can't start new thread",
    "failed to map segment",  # of a library that is being loaded
)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


class Failure(NamedTuple):
    """How a job failed: its exit code and what to say."""

    code: int
    message: str


class Parser(argparse.ArgumentParser):
    """A command line whose errors are one line with code 2, like all others; it guesses nothing.

    Raises:
        ConfigError: by ``parse_args``, the command line cannot be read.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def error(self, message: str) -> NoReturn:
        raise ConfigError("command line", message, f"see {self.prog} --help")


def command(run: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None) -> int:
    """Do what a command does, and end as every command ends: never with a traceback, unless the
    arguments hold ``debug=true`` or ``--debug``, or RERENDER_DEBUG=1 is in the environment.

    Args:
        run: the command; its result is the exit code, None for 0.
        arguments: as typed, without the program's name; those of this process if None.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with streams():
        try:
            with terminable(), warned():
                code = run(given) or 0
                sys.stdout.flush()
                return code
        except SystemExit as end:  # argparse, after --help
            return end.code if isinstance(end.code, int) else 2 if end.code else 0
        except BaseException as error:
            code, message = failure(error)
            report(message)
            trace(error, bool({*given} & {*_DEBUG}))
            return code


def loading() -> None:
    """From now on the process ends as every command ends also where the command's own module
    cannot be loaded: there is no memory for PyTorch, a library is broken, Ctrl-C comes meanwhile.
    `command` is entered only after that."""

    def end(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        code, message = failure(error)
        report(message)
        trace(error, bool({*sys.argv} & {*_DEBUG}))
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)  # of an exception that nobody caught, Python makes 1

    sys.excepthook = end


def failure(error: BaseException) -> Failure:
    """The exit code of an error and its line."""
    known = refused(error)
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


def refused(error: BaseException) -> RerenderError | None:
    """An error in our words, with its exit code; None where it is a bug of ours or a signal."""
    if isinstance(error, RerenderError):
        cause = _starved(error)
        return error if cause is None else refused(cause)
    said = " ".join(str(error).split())
    if _is_of_memory(error, said):
        device = any(word in said for word in ("CUDA", "HIP", "MPS", "XPU", "CUBLAS", "CUDNN"))
        cure = "lower data.size or sampling.batch_size (rerender.propagate: --ahead 1), or " + (
            "take model.dtype=float16 or model.vae_tiling=on"
            if device
            else "end other programs that hold memory"
        )
        return ResourceError("memory", said[:200] or "ran out", cure)
    if isinstance(error, BrokenPipeError):
        cure = "read it to its end, or send it to a file"
        return ResourceError("output", "who was reading it has gone", cure)
    if isinstance(error, OSError):
        reason = (error.strerror or str(error)).lower()
        if error.errno in _SYSTEM:
            where = "FFmpeg" if "(" in str(error.filename) and _of_ffmpeg(error) else error.filename
            return ResourceError(where or "the system", reason, _SYSTEM[error.errno])
        if error.errno == errno.ENOENT and not error.filename and _is_nowhere():
            problem = "was removed while the command ran in it"
            return ResourceError("working folder", problem, "start again in one that stays")
        if error.errno in _GONE and error.filename:
            return InputError(error.filename, reason, "put it there, then start again")
        if error.errno and error.filename:
            return ResourceError(
                error.filename, reason, "look at it and its disk, then start again"
            )
    if isinstance(error, UnicodeEncodeError) and error.encoding in ("ascii", "latin-1"):
        lacking = ascii(error.object[error.start])
        problem = f"its encoding, {error.encoding}, has no {lacking}, of a name that is needed"
        return ConfigError("locale", problem, "set LC_ALL=C.UTF-8 or PYTHONUTF8=1")
    return missing_library(error) if isinstance(error, ImportError) else None


def _starved(error: RerenderError) -> BaseException | None:
    """What an input or a part was refused for, where it is not to blame: a library that has run out
    of memory, threads or files says so in the midst of a picture or a network, and whoever reads
    that calls it damaged. FFmpeg also lacks memory for what a damaged file claims."""
    cause, seen = error.__cause__, {id(error)}  # an error may be its own cause
    while cause is not None and id(cause) not in seen and not isinstance(error, ResourceError):
        seen.add(id(cause))
        claimed = _of_ffmpeg(cause) and isinstance(cause, MemoryError)
        lacking = isinstance(cause, OSError) and cause.errno in _LACKING
        if lacking or (not claimed and _is_of_memory(cause, str(cause))):
            return cause
        cause = cause.__cause__
    return None


def _is_nowhere() -> bool:
    """Whether the working folder is gone; the system then names no file."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _of_ffmpeg(error: BaseException) -> bool:
    """Whether PyAV raised it, which may name a function of FFmpeg in place of a file."""
    return type(error).__module__.startswith("av.")


def _is_of_memory(error: BaseException, said: str) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, Exception) and any(words in said.lower() for words in _MEMORY)


def report(message: str, kind: str = "error") -> None:
    """Say one line on standard error; control characters do not reach the terminal."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    sys.stderr.write(f"{kind}: {line}\n")
    sys.stderr.flush()


def trace(error: BaseException, wanted: bool) -> None:
    """Show the traceback of an error, where that is asked for."""
    if wanted or os.environ.get("RERENDER_DEBUG") == "1":
        traceback.print_exception(error)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the program like Ctrl-C does while the block runs."""

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


# -- what is said while it works ------------------------------------------------------------------

OURS = ("rerender", "eval", "experiments")  # whose log is listened to
_SHOWING: list[_Terminal] = []  # the first one shows


class _Terminal(logging.Handler):
    """Keeps each warning once; the outermost one says it too, in one line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message not in self.said:
            self.said.append(message)  # errors are reported by the command itself
            if _SHOWING[:1] == [self]:
                report(message, "warning")


@contextmanager
def warned() -> Iterator[list[str]]:
    """Show what our own code warns of while the block runs, each once.

    Yields:
        The warnings so far, in order: a list that grows. What a run says of its input before it has
        a folder is in it too; metrics.json keeps it.
    """
    terminal = _Terminal()
    _SHOWING.append(terminal)
    try:
        with listening(terminal):
            yield terminal.said
    finally:
        _SHOWING.remove(terminal)


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """Hand a handler what our own code says."""
    ours = [logging.getLogger(name) for name in OURS]
    levels = [logger.level for logger in ours]
    for logger in ours:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)
            logger.removeHandler(handler)


class _Outlet(io.FileIO):
    """A standard stream that goes on without its reader: what nobody reads any more is dropped,
    so that ``| head`` costs no result. Another error is raised once."""

    lost = False

    def write(self, data: Any) -> int:
        if not self.lost:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = True
                if error.errno != errno.EPIPE:
                    raise
        return memoryview(data).nbytes


@contextmanager
def streams() -> Iterator[None]:
    """Standard output and error that stop nobody while the block runs: without a reader, without
    UTF-8 (a letter that the terminal lacks is a ``?``), or closed."""
    names = ("stdout", "stderr")
    before = {name: getattr(sys, name) for name in names}
    for number, name in enumerate(names, start=1):
        setattr(sys, name, _patient(number, before[name], getattr(sys, f"__{name}__")))
    try:
        yield
    finally:
        for name in names:
            with suppress(OSError, ValueError):
                getattr(sys, name).flush()
            setattr(sys, name, before[name])


def _patient(number: int, stream: TextIO | None, original: TextIO | None) -> TextIO:
    if stream is None:  # closed by the shell (>&-)
        return io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w"), errors="replace")
    if stream is not original:  # somebody has put his own there, as tests do
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        return stream
    with suppress(OSError, ValueError):
        stream.flush()
        return io.TextIOWrapper(
            io.BufferedWriter(_Outlet(number, "w", closefd=False)),
            encoding=stream.encoding,
            errors="replace",
            line_buffering=number == 2 or stream.isatty(),
        )
    return stream
