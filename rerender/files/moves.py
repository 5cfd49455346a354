"""Files and folders that get another name, or are taken away."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from rerender.files.explain import explained
from rerender.files.folders import folder, guarded, sync
from rerender.files.temporaries import TEMPORARIES


def move(source: Path, target: Path) -> None:
    """Give a finished folder its name; it is there as a whole or not at all.

    Raises:
        ResourceError, ConfigError: as `put`, also where the name is taken.
    """
    folder(target.parent)
    guarded(source)
    with explained(target):
        source.rename(target)
        sync(target.parent)


def remove(path: Path) -> None:
    """Take away a file or a folder with all that is in it; one that is gone already is no error.

    A link is taken away itself, never what it leads to.
    """
    guarded(path.parent)
    with explained(path), suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep(path: Path) -> None:
    """Take away what writers that were killed left in a folder and below; for whoever has it to
    himself."""
    for place, folders, names in os.walk(path):
        leftovers = [name for name in (*folders, *names) if TEMPORARIES.fullmatch(name)]
        for name in leftovers:
            remove(Path(place) / name)
        folders[:] = [name for name in folders if name not in leftovers]


def touch(path: Path) -> None:
    """Note that a file was used, to the hour, where that can be noted."""
    with suppress(OSError):
        if path.stat().st_mtime < time.time() - 3600:
            os.utime(path)
