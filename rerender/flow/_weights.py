"""Weights of flow networks: a local file, its digest checked, read without running code."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerender.errors import ConfigError, WeightsError

State = Mapping[str, Tensor]
"""Weights by their names."""

ALONE = threading.Lock()
"""Held while a network is loaded or runs: torchvision's RAFT keeps its correlations between its own
steps, and frames are looked at from several threads. One network uses all cores as it is."""


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


def load(
    network: nn.Module,
    path: Path,
    cure: str,
    rename: Callable[[State], State] = lambda state: state,
) -> nn.Module:
    """The network with the weights of a file, for inference.

    Args:
        network: of the right kind and size.
        path: the file.
        cure: what to do where it belongs to another network.
        rename: from the names in the file to those of the network.

    Raises:
        WeightsError: the file is damaged or belongs to another network.
    """
    try:
        state = state_of(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file can break the reader in any way
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else "is damaged"
        raise WeightsError(path, f"cannot be used: {reason}", "get the file again") from error
    state = rename(state)
    problem = misfit(network, state)
    if problem:
        raise WeightsError(path, problem, cure)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def state_of(content: Any) -> State:
    """The state inside a checkpoint, which may hold more than the model, and may have been saved
    from a model that was spread over GPUs."""
    for place in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(place), Mapping):
            content = content[place]
    tensors = isinstance(content, Mapping) and [isinstance(v, Tensor) for v in content.values()]
    if not tensors or not all(tensors):
        raise ValueError(f"holds a {type(content).__name__}, not the weights of a model")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def misfit(network: nn.Module, state: State) -> str | None:
    """Why weights are not those of a network, by the first that is not as it should be."""
    wanted = network.state_dict()
    for name in wanted:
        if name not in state:
            return f"has no {name}: these are not the weights of this network"
        if state[name].shape != wanted[name].shape:
            found, right = ([*tensor.shape] for tensor in (state[name], wanted[name]))
            return f"its {name} is {found}, not {right}: these are the weights of another size"
    extra = next((name for name in state if name not in wanted), None)
    return extra and f"has a {extra} more: these are not the weights of this network"
