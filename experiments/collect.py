"""The end of a sweep: its finished runs side by side, scored, with tables and a report page.

``python -m experiments.collect NAME RUN...`` does it again for runs that are there already.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.folder import score_folder
from eval.results import CONFIG
from experiments import report, tables
from rerender import store
from rerender.errors import InputError, RerenderError
from rerender.exits import failure
from rerender.exits import report as say

_GROWING = (".log", ".jsonl")  # files that a run goes on writing to
_ASIDE = ("wandb", store.LOCK)


def collect(root: Path, runs: Sequence[Path]) -> list[Path]:
    """Rebuild a results folder from run folders.

    The files of the runs are linked where the disk allows it and copied elsewhere, so that the
    folder stands alone. Runs of an earlier sweep leave it; scores of those that stay are kept.

    Args:
        root: the results folder.
        runs: run folders; those that never began are left out, unfinished ones are listed.

    Returns:
        The tables and the page.

    Raises:
        InputError: none of the runs began, or a video cannot be read.
        ResourceError: the disk is full or may not be written.
    """
    begun = [run for run in dict.fromkeys(runs) if (run / CONFIG).is_file()]
    if not begun:
        raise InputError(root, "has no run to show", "see why the jobs failed")
    for old in sorted(root.iterdir()) if root.is_dir() else ():
        if (old / CONFIG).is_file() and not old.is_symlink():
            shutil.rmtree(old)
    for run in begun:
        _promote(run, root / run.name)
    score_folder(root, None)
    paths = tables.write(root)
    return [*paths, report.build(root)]


def _promote(run: Path, target: Path) -> None:
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = file.relative_to(run)
        if name.parts[0] in _ASIDE or file.name.startswith(".tmp-"):
            continue
        store.folder((target / name).parent)
        if file.suffix in _GROWING or not _linked(file, target / name):
            store.put(target / name, file.read_bytes())


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file, target)
    except OSError:  # another disk, or one without links
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.collect", description=__doc__)
    parser.add_argument("results", type=Path, help="the results folder, such as results/drift")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    given = parser.parse_args(arguments)
    try:
        paths = collect(given.results, given.runs)
    except RerenderError as error:
        code, message = failure(error)
        say(message)
        return code
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
