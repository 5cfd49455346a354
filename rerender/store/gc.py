"""Look into the stage store and make room in it.

``ls`` says what is there; ``gc`` removes what was not used for some days, or what was used least
recently until the rest fits. What a running command uses or works on is left alone, as is every
file that is not the store's: a folder that is no stage store is refused.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rerender.errors import ConfigError, InputError
from rerender.exits import Parser, command
from rerender.store import entries, removal
from rerender.store.entries import MANIFEST

DAY = 86400.0


@dataclass(frozen=True)
class StoredItem:
    """A finished stage, a small result or a stage under way.

    Attributes:
        path: its file or folder.
        stage: what it is a result of; "work" is a stage under way.
        size: bytes.
        used: when it was used last, in seconds since the epoch.
    """

    path: Path
    stage: str
    size: int
    used: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code (see `rerender.exits`)."""
    return command(lambda given: run(parser().parse_args(given)), arguments)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = Parser(prog="python -m rerender.store", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    for name, does in (("ls", "say what is there"), ("gc", "remove what was not used")):
        command = commands.add_parser(name, help=does)
        command.add_argument("root", type=Path, nargs="?", default=Path(".store"), metavar="STORE")
    command.add_argument("--days", type=float, help="remove what was not used for so many days")
    command.add_argument("--gigabytes", type=float, help="keep at most so much")
    return result


def run(options: argparse.Namespace) -> None:
    """Do what the command line says."""
    if not options.root.is_dir():
        raise InputError(options.root, "is no stage store", "name its folder (store=... of a run)")
    if not entries.is_store(options.root):
        problem = "is no stage store, or holds other files and is of an older version"
        raise ConfigError(options.root, problem, "name the folder of one (store=... of a run)")
    if options.command == "ls":
        sys.stdout.write(listing(list(kept(options.root)), time.time()))
        return
    if options.days is None and options.gigabytes is None:
        raise ConfigError("gc", "nothing says what may go", "give --days or --gigabytes")
    for name in ("days", "gigabytes"):
        value = getattr(options, name)
        if value is not None and not value >= 0:
            raise ConfigError(f"--{name}", f"must be 0 or more, received {value}", "change it")
    gone = collect(options.root, time.time(), options.days, options.gigabytes)
    freed = sum(item.size for item in gone)
    sys.stdout.write(f"{len(gone)} removed, {freed / 1e6:.1f} MB freed\n")


def kept(root: Path) -> Iterator[StoredItem]:
    """Everything in a stage store that is the store's."""
    for stage, path in entries.found(root):
        named = entries.modified(path / MANIFEST) or entries.modified(path / entries.FILES)
        used = named or entries.modified(path)
        yield StoredItem(path, stage, entries.size(path), used)


def listing(items: Sequence[StoredItem], now: float) -> str:
    """A table: what of each stage is there, how large it is and when it was used last."""
    lines = [f"{'stage':<10} {'count':>7} {'MB':>10}  last used"]
    for stage in sorted({item.stage for item in items}):
        of = [item for item in items if item.stage == stage]
        size, days = sum(item.size for item in of) / 1e6, (now - max(i.used for i in of)) / DAY
        lines.append(f"{stage:<10} {len(of):>7} {size:>10.1f}  {days:.1f} days ago")
    total = sum(item.size for item in items) / 1e6
    return "\n".join([*lines, f"{'all':<10} {len(items):>7} {total:>10.1f}"]) + "\n"


def collect(
    root: Path, now: float, days: float | None = None, gigabytes: float | None = None
) -> list[StoredItem]:
    """Remove what was used least recently.

    Args:
        root: the stage store.
        now: seconds since the epoch.
        days: whatever was not used for so long goes.
        gigabytes: then more goes, until no more than this is left.

    Returns:
        What was removed.

    Raises:
        ResourceError: something cannot be removed.
    """
    removal.sweep_dead(root)
    items = sorted(kept(root), key=lambda item: (item.used, item.path))
    left, gone = sum(item.size for item in items), []
    for item in items:
        old = days is not None and item.used < now - days * DAY
        large = gigabytes is not None and left > gigabytes * 1e9
        if (old or large) and removal.take_away(root, item.stage, item.path):
            left -= item.size
            gone.append(item)
    return gone
