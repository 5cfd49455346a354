"""What decides a run's bytes, and whether a folder holds a finished run of just that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.metrics.weights import DEMO, digest
from rerender.job import UNHASHED, from_yaml, key_of
from rerender.kinds import expanded
from rerender.provenance import code_digest, versions
from rerender.record import CONFIG

OUTPUTS, METRICS = Path("outputs"), "metrics.json"
_ELSEWHERE = (*UNHASHED, "model")  # the loaded weights are compared themselves
_LONGEST = 4096
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
        inputs = dict(sorted(_inputs(ours, "")))
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
        """Whether a folder holds a complete run with this identity, its videos undamaged.

        Args:
            folder: a run folder.
            weights: digest of the model's weights; None leaves them out of the comparison.
        """
        facts = read(folder)
        if facts is None or facts["weights"] != (weights or facts["weights"]):
            return False
        kept = {**facts, "pictures": sorted({*facts["pictures"]} & {*self.pictures})}
        return all(kept[key] == value for key, value in self.facts().items()) and all(
            (folder / clip["video"]).is_file() and digest(folder / clip["video"]) == clip["sha256"]
            for clip in facts["clips"]
        )


def read(folder: Path) -> dict[str, Any] | None:
    """What a finished run says of itself; None if it is not finished or of another version."""
    wanted = {"config", "code", "versions", "inputs", "pictures", "weights", "clips", "seconds"}
    with suppress(OSError, ValueError):
        facts = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        config = from_yaml((folder / CONFIG).read_text(encoding="utf-8"))
        if isinstance(facts, dict) and wanted <= facts.keys() and facts["config"] == key_of(config):
            return facts
    return None


def _inputs(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key, hash) of every file or folder that a configuration names."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if not str(name).endswith("prompt"):  # a text, whatever file has that name
                yield from _inputs(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _inputs(value, f"{key}[{index}]")
    elif isinstance(node, str) and 0 < len(node) < _LONGEST and "\0" not in node:
        found = DEMO if key.endswith(".weights") and node == "demo" else expanded(node)
        with suppress(OSError):  # a name too long for a file is a text
            if found.exists():
                yield key, _content(found)


def _content(path: Path) -> str:
    if path.is_file():
        return digest(path)
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.is_file() and not _OTHERS.intersection(inside.parts):
            total.update(f"{inside.as_posix()} {digest(file)}\n".encode())
    return total.hexdigest()
