"""The folder of one run: its lock, its log, its pictures, and the record of what was measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from rerender import store
from rerender.contracts import Cell, Tracker
from rerender.errors import ConfigError
from rerender.exits import BUG, report
from rerender.progress import Progress
from rerender.scene import Watch
from rerender.tracker.jsonl import Jsonl

log = logging.getLogger(__name__)

CONFIG, LOG = "config.yaml", "run.log"
Values = Mapping[str, float | int | str | None]


@contextmanager
def claimed(folder: Path, same: Callable[[str], bool]) -> Iterator[None]:
    """Have an output folder to oneself; refused, it is left as it was found.

    Args:
        folder: the output folder, made if missing.
        same: whether the text of a configuration file belongs to this run.

    Raises:
        ConfigError: a file has this name, or the folder holds something else.
        LockedError: another process works in it.
    """
    check_place(folder, same)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with store.lock(folder):
        try:
            yield
        finally:
            if {path.name for path in _listed(folder)} <= {store.LOCK}:
                _remove(folder, made)


def check_place(folder: Path, same: Callable[[str], bool]) -> None:
    """Refuse an output folder that is not one, or that holds the result of something else."""
    blocker = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if blocker.exists() and not blocker.is_dir():
        raise ConfigError("out", f"{blocker} is a file", "choose another output folder")
    if not any(path.name != store.LOCK for path in _listed(folder)):
        return
    config = folder / CONFIG
    if not config.is_file():
        raise ConfigError("out", f"{folder} holds other files", "choose another output folder")
    if not same(config.read_text(encoding="utf-8")):
        raise ConfigError(
            "out",
            f"{folder} holds the result of another configuration",
            "choose another output folder or remove this one",
        )


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, but for files that a writer which was killed had not finished."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if not path.name.startswith(store.TEMPORARY)]


def _remove(folder: Path, made: list[Path]) -> None:
    with suppress(OSError):
        (folder / store.LOCK).unlink(missing_ok=True)
        for path in made:
            path.rmdir()


@dataclass
class Record(Watch):
    """What is kept of a run while it works.

    Attributes:
        folder: the run folder, claimed.
        tracker: where the record goes besides record.jsonl.
        pictures: names of the pictures that are kept.
        progress: shows how far the run is.
        place: folder of the clip that is being worked on.
        kept: numbers of the frames of which there are pictures, by name, for this clip.
    """

    folder: Path
    tracker: Tracker
    pictures: tuple[str, ...]
    progress: Progress
    place: Path = field(init=False)
    kept: dict[str, list[int]] = field(default_factory=dict, init=False)
    _jsonl: Jsonl = field(default_factory=Jsonl, init=False)

    def __post_init__(self) -> None:
        self.place = self.folder

    def at(self, place: Path) -> None:
        """Turn to another clip, whose files go to ``place``."""
        self.place, self.kept = place, {}

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.progress.advance(stage, done, total, note)

    def wants(self, name: str) -> bool:
        return name in self.pictures

    def picture(self, name: str, index: int, image: Tensor) -> None:
        if self.wants(name):
            store.put(self.place / name / f"{index:06d}.png", store.png(image))
            self.kept.setdefault(name, []).append(index)

    def start(self, config: Mapping[str, Any], group: str) -> None:
        """Begin the record; a run started again in its folder begins a new attempt."""
        self._jsonl.start(self.folder, config, self.folder.name, group)
        with self._harmless("start"):
            self.tracker.start(self.folder, config, self.folder.name, group)

    def log(self, values: Values, step: int | None = None) -> None:
        """Add a row of values."""
        self._jsonl.log(values, step)
        with self._harmless("log"):
            self.tracker.log(values, step)

    def summary(self, values: Values) -> None:
        """Set final values."""
        self._jsonl.summary(values)
        with self._harmless("summary"):
            self.tracker.summary(values)

    def file(self, path: Path) -> None:
        """Add a finished file of the run folder."""
        name = path.relative_to(self.folder).with_suffix("").as_posix()
        self._jsonl.file(name, path)
        with self._harmless("file"):
            self.tracker.file(name, path)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Add a table."""
        self._jsonl.table(name, columns, rows)
        with self._harmless("table"):
            self.tracker.table(name, columns, rows)

    def finish(self, exit_code: int) -> None:
        """End the record."""
        self.progress.close()
        self._jsonl.finish(exit_code)
        with self._harmless("finish"):
            self.tracker.finish(exit_code)

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """A tracker that fails is left alone from then on; the run goes on."""
        from rerender.tracker.none import Silent

        try:
            yield
        except Exception as error:  # of any library, in any state
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            log.warning("tracker: %s failed (%s); going on without it", what, reason)
            failing, self.tracker = self.tracker, Silent()
            if what not in ("start", "finish"):
                with suppress(Exception):  # what it has got by now is kept
                    failing.finish(BUG)


class _LogFile(logging.Handler):
    """Adds each line to the log of a run."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # what cannot be logged must not stop the run
            store.append(self._path, self.format(record).encode(errors="replace") + b"\n")


class _Terminal(logging.Handler):
    """Says each warning once, in one line, and keeps it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message not in self.said:
            self.said.append(message)  # errors are reported by the command itself
            report(message, "warning")


@contextmanager
def warned() -> Iterator[list[str]]:
    """Show what our own code warns of while the block runs, each once.

    Yields:
        The warnings so far, in order: a list that grows. What a run says of its input before it has
        a folder is in it too; metrics.json keeps it.
    """
    terminal = _Terminal()
    with _listening(terminal):
        yield terminal.said


@contextmanager
def logged(folder: Path, warnings: Sequence[str] = ()) -> Iterator[None]:
    """Keep what our own code says, and what Python warns of, in the run's log.

    Args:
        folder: of the run.
        warnings: what was said before; the log begins with it.
    """
    file = _LogFile(folder / LOG)
    for message in warnings:
        file.handle(
            logging.makeLogRecord(
                {
                    "name": "rerender",
                    "levelno": logging.WARNING,
                    "levelname": "WARNING",
                    "msg": message,
                }
            )
        )
    python = logging.getLogger("py.warnings")
    python.addHandler(file)
    logging.captureWarnings(True)
    try:
        with _listening(file):
            yield
    finally:
        logging.captureWarnings(False)
        python.removeHandler(file)


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    """Hand a handler what our own code says."""
    ours = [logging.getLogger(name) for name in ("rerender", "eval")]
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
