"""What decides a run's bytes, and whether a folder holds a finished run of just that."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.metrics.weights import DEMO, digest
from rerender.config.job import UNHASHED, key_of
from rerender.errors import ConfigError, InputError
from rerender.kinds import expanded
from rerender.run_folder import CONFIG, RECORD, damaged, read_config, read_facts
from rerender.store.provenance import code_digest, versions

log = logging.getLogger(__name__)

OUTPUTS = Path("outputs")
_ELSEWHERE = (*UNHASHED, "model")  # the loaded weights are compared themselves
_PLACES = ("out", "name")  # say where results go
_LONGEST = 4096
MOST_FILES = 200_000  # of an input folder; more than two hours of frames
_OTHERS = {"__pycache__", ".git"}  # what Python and git write into a folder of code by using it
Tree = Mapping[str, Any]


def place(tree: Tree, name: str) -> Path:
    """The folder of a run.

    Args:
        tree: its resolved configuration.
        name: what the folder is called where the configuration does not say.
    """
    if tree.get("out"):
        return expanded(str(tree["out"]))
    return OUTPUTS / f"{tree.get('name') or name}-{key_of(tree)[:8]}"


@dataclass(frozen=True)
class Identity:
    """What decides the results of a run, besides the weights of its model.

    Attributes:
        config: hash of the configuration.
        code: hash of the code.
        versions: of the interpreter and the libraries.
        inputs: sha256 of every file that the configuration names, by its key.
        pictures: names of the pictures that are kept.
    """

    config: str
    code: str
    versions: Mapping[str, str]
    inputs: Mapping[str, str]
    pictures: tuple[str, ...]

    @classmethod
    def of(cls, tree: Tree) -> Identity:
        """The identity of a run that would start now; reads the files that are named."""
        ours = {key: value for key, value in tree.items() if key not in _ELSEWHERE}
        inputs = inputs_of(ours)
        pictures = tuple(sorted(tree.get("pictures") or ()))
        return cls(key_of(tree), code_digest(), versions(), inputs, pictures)

    def facts(self) -> dict[str, Any]:
        """What metrics.json keeps of it."""
        return {
            "config": self.config,
            "code": self.code,
            "versions": dict(self.versions),
            "inputs": dict(self.inputs),
            "pictures": list(self.pictures),
        }

    def finished(self, folder: Path, weights: str | None = None) -> bool:
        """Whether a folder holds a complete run with this identity, every file of it undamaged.

        Args:
            folder: a run folder.
            weights: digest of the model's weights; None leaves them out of the comparison.
        """
        facts = read(folder)
        if facts is None or facts["weights"] != (weights or facts["weights"]):
            return False
        kept = {**facts, "pictures": sorted({*facts["pictures"]} & {*self.pictures})}
        if any(kept[key] != value for key, value in self.facts().items()):
            return False
        torn = damaged(folder, facts)
        if torn:
            more = f" and {len(torn) - 1} more files" if torn[1:] else ""
            log.warning(
                "%s: damaged or missing%s; its run counts as unfinished", folder / torn[0], more
            )
        return not torn


def read(folder: Path) -> dict[str, Any] | None:
    """What a finished run says of itself; None if it is not finished or of another version."""
    with suppress(InputError):
        return read_facts(folder)
    return None


def owner(folder: Path) -> str | None:
    """The configuration's hash of the run that a folder belongs to; None where nothing says so.

    What metrics.json says holds, which has its own sha256; without one, what record.jsonl says of
    the last start; then config.yaml. So a damaged file of these does not take the folder from its
    run, which mends it.
    """
    facts = read(folder)
    if facts is not None:
        return str(facts["config"])
    config = _started(folder / RECORD)
    if config is None:
        with suppress(InputError):
            config = read_config(folder / CONFIG)
    return None if config is None else key_of(config)


def _started(record: Path) -> Tree | None:
    """The configuration of the last start in a record."""
    if not record.is_file():
        return None
    found = None
    with suppress(OSError), record.open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"event": "start"'):
                with suppress(ValueError, RecursionError, KeyError):
                    config = json.loads(line)["config"]
                    found = config if isinstance(config, dict) else found
    return found


def check_apart(tree: Tree, folder: Path) -> None:
    """Refuse an output folder in which, or right beside which, an input of the run lies: it would
    be written over, or the result would be a part of the input the next time.

    Raises:
        ConfigError: one does.
    """
    end = Path(os.path.realpath(folder))
    ours = {key: value for key, value in tree.items() if key not in _PLACES}
    stages = [("store", Path(str(tree["store"])))] if tree.get("store") else []
    for key, path in (*named_paths(ours, ""), *stages):
        found = Path(os.path.realpath(path))
        if found == end or found.is_relative_to(end):
            problem = f"{folder} holds an input of the run ({key}={path})"
        elif found == end.parent and key.startswith("data."):
            problem = f"{folder} lies among the clips of {key}={path}, and would be one"
        else:
            continue
        raise ConfigError("out", problem, "choose another output folder")


def inputs_of(node: Any) -> dict[str, str]:
    """The hash of every file or folder that a configuration names, by its key."""
    return dict(sorted((key, content_of(path)) for key, path in named_paths(node, "")))


def named_paths(node: Any, key: str) -> Iterator[tuple[str, Path]]:
    """(key, path) of every file or folder that a configuration names and that is there."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            # Texts, whatever file has that name.
            if not str(name).endswith(("prompt", "style", "styles")):
                yield from named_paths(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from named_paths(value, f"{key}[{index}]")
    elif isinstance(node, str) and 0 < len(node) < _LONGEST and "\0" not in node:
        found = DEMO if key.endswith(".weights") and node == "demo" else expanded(node)
        with suppress(OSError):  # a name too long for a file is a text
            if found.exists():
                yield key, found


def content_of(path: Path) -> str:
    """The sha256 of a file, or of all files of a folder with their names.

    Raises:
        InputError: the folder holds far more files than any input has, a whole disk perhaps.
    """
    if path.is_file():
        return digest(path)
    total = hashlib.sha256()
    for file in _files_of(path):
        name = os.fsencode(file.relative_to(path).as_posix())
        total.update(b"%s %s\n" % (name, digest(file).encode()))
    return total.hexdigest()


def _files_of(folder: Path) -> list[Path]:
    """The files of a folder and of those below it, in order; counted before any is read."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _OTHERS]
        found += (Path(place, name) for name in names if name not in _OTHERS)
        if len(found) > MOST_FILES:
            problem = f"holds more than {MOST_FILES:,} files"
            raise InputError(folder, problem, "name the folder that holds what is meant alone")
    return sorted(path for path in found if path.is_file())
