"""Which code and libraries make a result: digests of source files, and versions."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rerender.config.allowlist import TARGET
from rerender.config.paths import ROOT

PACKAGES = ("rerender", "eval")
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "opencv-python", "av")
_IMPORT = re.compile(r"^\s*(?:from ([\w.]+) import ([^#\n(]+|\([^)]*\))|import ([\w.]+))", re.M)


@cache
def code_digest() -> str:
    """A short hash of all code that makes and measures results, as it was when first asked."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return _digest(files)


def code_of(modules: Iterable[str]) -> str:
    """A short hash of some modules of ours and of all that they import, directly or not.

    A change elsewhere does not change it: another way to fill frames leaves key frames valid.
    """
    found: set[Path] = set()
    pending = [file for name in modules for file in _files(name)]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending += _imports(file)
    return _digest(sorted(found))


def targets(node: Any) -> Iterator[str]:
    """The modules of the classes that a configuration names."""
    if isinstance(node, Mapping):
        if TARGET in node:
            yield str(node[TARGET]).rpartition(".")[0]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from targets(value)


@cache
def versions() -> dict[str, str]:
    """Versions of the interpreter and of the libraries that compute."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def _imports(file: Path) -> tuple[Path, ...]:
    """Our files that a file imports, anywhere in it."""
    found: list[Path] = []
    # What a file imports as a command of its own is not used where it is imported.
    text = _text(file).partition('\nif __name__ == "__main__":')[0]
    for source, names, plain in _IMPORT.findall(text):
        found += _files(source or plain)
        for name in re.findall(r"\w+", names):
            found += _files(f"{source}.{name}")
    return tuple(found)


@cache
def _files(module: str) -> tuple[Path, ...]:
    """The file of a module of ours; none for a library's. The packages that it lies in run too
    where it is imported, but give it nothing: their own imports are others' business."""
    parts = module.split(".")
    if parts[0] not in PACKAGES:
        return ()
    place = ROOT.joinpath(*parts)
    return tuple(
        file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()
    )


@cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(ROOT).as_posix()}\0{_text(file)}\0".encode())
    return total.hexdigest()[:16]
