"""From what a configuration says to files on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rerender.config.paths import ROOT
from rerender.errors import WeightsError
from rerender.model import _hub
from rerender.model._files import Layout, need
from rerender.video import sha256_file

MANIFEST = "SHA256SUMS"
_FOLDER = "give a folder in diffusers layout, a .safetensors file, or a hub id such as owner/name"


def local(path: str) -> Path | None:
    """The folder or file that a path names, or None where it is a hub id.

    Raises:
        WeightsError: it looks like a path but there is nothing.
    """
    for candidate in (Path(path).expanduser(), ROOT / path):
        try:
            if candidate.is_dir() or candidate.is_file():
                return candidate
        except (OSError, ValueError) as error:  # such as a name that is too long
            raise WeightsError(path[:200], f"cannot be a path ({error})", _FOLDER) from error
    if path.startswith(("/", ".", "~")) or path.count("/") != 1:
        raise WeightsError(path, "no such folder or file of model weights", _FOLDER)
    return None


def place(path: str, layout: Layout, fetching: _hub.Fetching) -> Path:
    """The folder that a path or a hub id stands for."""
    return local(path) or _hub.place(path, layout, fetching)


def ask_ahead(model: Mapping[str, Any]) -> None:
    """Begin to ask the hub for what a model's configuration takes from there."""
    for value in (model.get("path"), model.get("vae"), model.get("unet")):
        with suppress(WeightsError):
            if isinstance(value, str) and local(value) is None:
                _hub.ask_ahead(value)


def check_manifest(folder: Path) -> None:
    """Compare every file with the folder's list of sha256 sums, where it has one.

    Raises:
        WeightsError: a file is missing or differs.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        return
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(manifest, f"cannot be read ({error})", "restore the file") from error
    for line in lines:
        expected, _, name = line.partition("  ")
        need(folder, [name])
        found = sha256_file(folder / name)
        if found != expected:
            raise WeightsError(
                folder / name,
                f"sha256 is {found[:12]}, the manifest says {expected[:12]}",
                "the file is damaged: restore it",
            )
