"""The shipped weights: where they are, and that they are the ones that were shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rerender.errors import WeightsError

FOLDER = Path(__file__).parent / "weights"
NATURAL = Path(__file__).parent / "weights_natural"
"""Those of ``model=demo_natural``, whose autoencoder is the one of ``FOLDER``."""
VAE_MSE = Path(__file__).parent / "weights_vae_mse"
"""A second autoencoder: the encoder of ``FOLDER``, its decoder trained further."""
MANIFEST = "SHA256SUMS"
_CURE = "restore the folder from the repository or train again: python -m training.train"


def verify(folder: Path = FOLDER) -> None:
    """Check every file of a weights folder against its manifest.

    Raises:
        WeightsError: a file is missing, differs from the manifest, or is not listed in it.
    """
    listed = _listed(folder)
    for name, digest in listed.items():
        file = folder / name
        if not file.is_file():
            raise WeightsError(file, "is missing", _CURE)
        found = sha256(file)
        if found != digest:
            raise WeightsError(file, f"sha256 is {found[:12]}…, not {digest[:12]}…", _CURE)
    for name in contents(folder):
        if name not in listed:
            raise WeightsError(folder / name, f"is not listed in {MANIFEST}", "remove the file")


def sha256(file: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def contents(folder: Path) -> list[str]:
    """Every file of the folder but the manifest and the model card, as sorted relative paths."""
    files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in files if name not in (MANIFEST, "README.md", "figures.json"))


def _listed(folder: Path) -> dict[str, str]:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise WeightsError(manifest, "is missing", _CURE)
    rows = (line.split("  ", 1) for line in manifest.read_text().splitlines() if line)
    return {row[1]: row[0] for row in rows if len(row) == 2}
