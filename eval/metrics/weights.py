"""Where a metric's network lies on disk, and how it is named in a row."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from eval.contracts import UnavailableError
from rerender.config.paths import PACKAGE
from rerender.errors import WeightsError
from rerender.video import sha256_file

DEMO = PACKAGE / "demo" / "weights"
_FILES = ("model.safetensors", "pytorch_model.bin")


def find(weights: str, kind: str) -> Path:
    """The local folder of a network in the layout of transformers.

    Args:
        weights: "demo" for the one that ships with the project, a folder, or a hub id that has
            been downloaded before; nothing is fetched here.
        kind: folder of the demo network and the word used in messages, such as "clip".

    Raises:
        UnavailableError: nothing complete is there; the message says how to get it.
    """
    if weights == "demo":
        return _complete(DEMO / kind, "they ship with the project: restore the folder")
    if Path(weights).is_dir():
        return _complete(Path(weights), "the folder lacks model.safetensors or config.json")
    return _cached(weights)


def _complete(folder: Path, cure: str) -> Path:
    named = (folder / "config.json").is_file() and any((folder / n).is_file() for n in _FILES)
    if not named:
        raise UnavailableError(f"weights not found ({folder}; {cure})")
    return folder


def _cached(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    cure = f"run once: hf download {name}, or give a local folder"
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise UnavailableError(f"weights not found ({name}; {cure})") from error
    return _complete(folder, cure)


def opened(kind: Any, folder: Path, spare: tuple[str, ...] = ()) -> Any:
    """A network of transformers in float32, every tensor of it read from the folder and finite.

    Args:
        kind: its class.
        folder: as `find` gives it.
        spare: beginnings of the names of tensors that are not used and may be missing.

    Raises:
        WeightsError: the file is damaged or belongs to another architecture.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    file = next(folder / name for name in _FILES if (folder / name).is_file())
    try:
        network, report = kind.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # the libraries raise a dozen kinds and never name the file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(file, f"cannot be read ({reason})", "restore the file") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(spare))
    if missing:
        problem = f"lacks {len(missing)} tensors of a {type(network).__name__} ({missing[0]} first)"
        raise WeightsError(file, problem, "give the weights that the metric names")
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise WeightsError(file, f"tensor {name} holds NaN or infinity", "restore the file")
    return network.eval()


def label(weights: str, kind: str) -> str:
    """How a row names its network, such as ``"clip demo sha256:0a1b2c3d4e5f"``."""
    folder = find(weights, kind)
    file = next(folder / name for name in _FILES if (folder / name).is_file())
    short = weights if weights == "demo" else Path(weights).name
    return f"{kind} {short} sha256:{digest(file)[:12]}"


def digest(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; read again only when the file has changed."""
    state = file.stat()
    return _digest(file, state.st_mtime_ns, state.st_size)


@cache
def _digest(file: Path, changed: int, size: int) -> str:
    return sha256_file(file)
