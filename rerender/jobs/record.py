"""The folder of one run: its lock, its log, its pictures, and the record of what was measured."""

from __future__ import annotations

import errno
import logging
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from rerender import files
from rerender.contracts import Cell, Tracker
from rerender.errors import ConfigError, InputError
from rerender.exits import BUG, listening
from rerender.jobs.progress import Progress
from rerender.run_folder import (
    CONFIG,
    EVAL_SCORES,
    FRAMES,
    KEYS,
    LOG,
    MASTERS,
    METRICS,
    OWN,
    RECORD,
    REPORT,
    SCORES,
    SHEET,
    SOUND,
    VIDEO,
    WANDB,
)
from rerender.scene import Watch
from rerender.tracker.jsonl import Jsonl
from rerender.video import Clip

log = logging.getLogger(__name__)

FILES = (
    CONFIG,
    LOG,
    RECORD,
    METRICS,
    SCORES,
    EVAL_SCORES,
    SHEET,
    VIDEO,
    *MASTERS,
    SOUND,
    files.LOCK,
)
"""What a run writes into its folder, or into that of a clip where there are several."""
FOLDERS = (OWN, WANDB, KEYS, FRAMES)
RESERVED = (*FILES, *FOLDERS, REPORT)
"""Names that no clip may have: its files go to a folder of its name beside these."""
_CORE_LOG = "debug-core.log"  # W&B links the log of its service, and never writes through it
Values = Mapping[str, float | int | str | None]


@contextmanager
def claimed(
    folder: Path,
    ours: Callable[[Path], bool | None],
    waiting: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Have an output folder to oneself; refused, it is left as it was found.

    Args:
        folder: the output folder, made if missing.
        ours: whether what a folder holds belongs to this run; None where nothing says so.
        waiting: told who works in it, before waiting for his end; None does not wait.

    Raises:
        ConfigError: a file has this name, the folder holds something else, or a link or a pipe is
            where a file of the run goes.
        LockedError: another process works in it.
    """
    check_place(folder, ours)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with files.lock(folder, waiting):
        check_place(folder, ours)  # it may have come between
        try:
            yield
        finally:
            if {path.name for path in _listed(folder)} <= {files.LOCK}:
                _remove(folder, made)


def check_place(folder: Path, ours: Callable[[Path], bool | None]) -> None:
    """Refuse an output folder that is not one, that holds the result of something else, or in which
    writing would reach files that are elsewhere.

    Raises:
        ConfigError: as `claimed`.
    """
    for blocker in (folder, *folder.parents):
        mode = _mode(blocker)
        if mode is not None and not stat.S_ISDIR(mode):
            raise ConfigError("out", f"{blocker} is a file", "choose another output folder")
        if mode is not None:
            break
    found = [path for path in _listed(folder) if path.name != files.LOCK]
    mine = ours(folder) if any(path.name in FILES for path in found) else None
    if found and mine is None:
        raise ConfigError("out", f"{folder} holds other files", "choose another output folder")
    if mine is False:
        raise ConfigError(
            "out",
            f"{folder} holds the result of another configuration",
            "choose another output folder or remove this one",
        )
    _check_inside(folder)


def _check_inside(folder: Path) -> None:
    """Refuse what is neither a file nor a folder, or the one where the other goes."""
    for name in (*FILES, *FOLDERS):
        path, found = folder / name, _mode(folder / name)
        if found is not None and stat.S_ISDIR(found) != (name in FOLDERS):
            kind = "folder" if stat.S_ISDIR(found) else "file"
            raise ConfigError(path, f"is a {kind}, a run has something else there", "remove it")
    for place, folders, paths in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *paths)):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # of another process, which works there
                continue
            if stat.S_ISLNK(mode) and not _of_wandb(path, folder):
                raise ConfigError(path, "is a link, and nothing is written through it", "remove it")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise ConfigError(path, "is neither a file nor a folder", "remove it")


def _mode(path: Path) -> int | None:
    """Kind and rights of what has a name; None where nothing has it. It is asked for once: what
    another process takes away between two questions would be something else each time."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself is refused as a link
            raise
        return None


def _of_wandb(link: Path, folder: Path) -> bool:
    """Whether a link is one of those that W&B makes, and leads nowhere else."""
    if not link.relative_to(folder).as_posix().startswith(f"{WANDB}/"):
        return False
    return link.name == _CORE_LOG or link.resolve().is_relative_to((folder / WANDB).resolve())


def check_names(clips: Sequence[Clip]) -> None:
    """Refuse clips of one run whose folders would be those of others, or files of the run.

    Case does not tell names apart, since on many disks it does not either.

    Raises:
        InputError: a name is taken, or cannot be that of a folder.
    """
    seen = {name.casefold(): f"{name} of the run itself" for name in RESERVED}
    for clip in clips if len(clips) > 1 else ():
        name, folded = clip.name, unicodedata.normalize("NFC", clip.name).casefold()
        cure = "rename it, or give each clip a run of its own"
        if name in ("", ".", "..") or set(name) & {"/", "\0"} or name.startswith(files.TEMPORARY):
            raise InputError(f"clip {name!r}", "its name cannot be that of a folder", cure)
        if folded in seen:
            raise InputError(f"clip {name!r}", f"has the name of {seen[folded]}", cure)
        seen[folded] = f"clip {name!r}"


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, but for files that a writer which was killed had not finished."""
    found = files.children(folder)
    return [path for path in found if not path.name.startswith(files.TEMPORARY)]


def _remove(folder: Path, made: list[Path]) -> None:
    with suppress(OSError):
        (folder / files.LOCK).unlink(missing_ok=True)
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
            files.put(self.place / name / f"{index:06d}.png", files.png(image))
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
            files.append_line(self._path, self.format(record).encode(errors="replace"))


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
        with listening(file):
            yield
    finally:
        logging.captureWarnings(False)
        python.removeHandler(file)
