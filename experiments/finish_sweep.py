"""The end of a sweep: its runs side by side, scored, with tables and a report page."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from experiments import experiment, report, tables
from rerender import files
from rerender.config.table import TableSpec
from rerender.errors import ConfigError, InputError
from rerender.exits import report as report_line
from rerender.run_folder import CONFIG, OWN, WANDB, files_below

_GROWING = (".log", ".jsonl")  # files that a run goes on writing to
_ASIDE = (WANDB, OWN, files.LOCK)


def collect(root: Path, runs: Sequence[Path], table: TableSpec | None = None) -> list[Path]:
    """Rebuild a results folder from run folders.

    A folder that holds runs which are not among these, such as those of the same experiment under
    other settings, is left as it is: the results go to a folder beside it, and it is said.

    Args:
        root: the results folder.
        runs: run folders in the order of the sweep; those that never began are left out, unfinished
            ones are listed.
        table: what the experiment says of its table.

    Returns:
        The tables and the page.

    Raises:
        InputError: none of the runs began, or a video cannot be read.
        ConfigError: a run lies in the folder, or the folder in a run.
        ResourceError: the disk is full or may not be written.
    """
    from eval.score import score_folder  # loads what measures

    def waiting(owner: str) -> None:
        report_line(f"{root}: being collected by {owner}; waiting for it", "warning")

    names = tuple(run.name for run in dict.fromkeys(runs))
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
    for place in (root, root.with_name(f"{root.name}-{digest}")):
        check_apart(place, *runs)
        with files.lock(place, waiting):
            others = sorted(_runs(place) - {*names})
            if others and place == root:
                kept = f"{len(others)} of its runs are of other settings ({others[0]})"
                report_line(f"{root}: {kept}; these results are beside it", "kept")
                continue
            promote(place, runs)
            experiment.write(place, table, names)
            score_folder(place, None)
            return [*tables.write(place), report.build(place)]
    raise AssertionError("a folder named after its runs holds no others")


def _runs(root: Path) -> set[str]:
    """The names of the runs in a results folder."""
    inside = (path for path in files.children(root) if not path.is_symlink())
    return {path.name for path in inside if (path / CONFIG).is_file()}


def promote(root: Path, runs: Sequence[Path]) -> None:
    """Bring run folders together in one folder, which stands alone.

    Files are linked where the disk allows it and copied elsewhere. Runs of an earlier call leave
    the folder; scores stay, so that what did not change is not measured again.

    Args:
        root: the folder, made if missing.
        runs: run folders; those that never began are left out.

    Raises:
        InputError: none of the runs began.
        ConfigError: a run lies in the folder, or the folder in a run; or a link leads out of it.
        ResourceError: the disk is full or may not be written.
    """
    begun = [run for run in dict.fromkeys(runs) if (run / CONFIG).is_file()]
    if not begun:
        raise InputError(root, "has no run to show", "run the experiment first")
    check_apart(root, *begun)
    for run in begun:
        files.unlinked(root, root / run.name)
    for old in files.children(root):
        if (old / CONFIG).is_file() and not old.is_symlink():
            files.remove(old)
    for run in begun:
        copy(run, root / run.name)


def copy(folder: Path, target: Path) -> None:
    """The files of a folder once more, as links where the disk allows it; not what only its
    process needs. A file that vanishes meanwhile, because its run is made again, is left out: what
    reads the copy finds that it is not whole."""
    for file in files_below(folder):
        name = file.relative_to(folder)
        if name.parts[0] in _ASIDE or file.name.startswith(".tmp-"):
            continue
        files.unlinked(target, files.folder((target / name).parent))
        files.remove(target / name)
        if file.suffix in _GROWING or file.is_symlink() or not _linked(file, target / name):
            with suppress(FileNotFoundError):
                files.put(target / name, file.read_bytes())


def check_apart(target: Path, *sources: Path) -> None:
    """Refuse an output that is an input, lies in one or holds one.

    Raises:
        ConfigError: it is.
    """
    end = Path(os.path.realpath(target))
    for source in sources:
        own = Path(os.path.realpath(source))
        if own.is_relative_to(end) or end.is_relative_to(own):
            raise ConfigError(target, f"is, holds or lies in the input {source}", "choose another")


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file, target)
    except OSError:  # another disk, or one without links
        return False
    return True
