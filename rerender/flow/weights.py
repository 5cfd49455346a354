"""Weights of flow networks: a local file, its digest checked, read without running code."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerender.errors import ConfigError, WeightsError


def checked(path: Path, sha256: str | None, cure: str) -> Path:
    """The file, refused if it is missing or its digest is not the expected one.

    Args:
        path: the file.
        sha256: the digest or its beginning; None takes it from a name such as ``x-ff5fadd5.pth``,
            as PyTorch's own downloads are called, and checks nothing where there is none.
        cure: what to do where the file is missing.

    Raises:
        ConfigError: ``sha256`` is not a digest.
        WeightsError: the file is missing or another one.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise ConfigError("flow.sha256", f"needs 8 to 64 hex digits, received {sha256!r}", "fix it")
    if not path.is_file():
        raise WeightsError(path, "there is no such file", cure)
    named = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    wanted = (sha256 or (named[1] if named else "")).lower()
    found = digest(path)
    if not found.startswith(wanted):
        raise WeightsError(path, f"its sha256 is {found[:16]}, not {wanted[:16]}", cure)
    return path


def digest(path: Path) -> str:
    """The sha256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def load(network: nn.Module, path: Path) -> nn.Module:
    """The network with the weights of a file, for inference.

    Raises:
        WeightsError: the file is damaged or belongs to another network.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state_of(content))
    except Exception as error:  # a damaged file can break the reader in any way
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "is damaged"
        raise WeightsError(path, f"cannot be used: {reason}", "get the file again") from error
    return network.eval().requires_grad_(False)


def state_of(content: Any) -> Mapping[str, Tensor]:
    """The state inside a checkpoint, which may hold more than the model."""
    if isinstance(content, Mapping) and "model" in content:
        content = content["model"]
    if not isinstance(content, Mapping):
        raise ValueError(f"holds a {type(content).__name__}, not the weights of a model")
    return content
