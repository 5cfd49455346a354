"""Weights of annotator networks: safetensors only, every tensor accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from rerender.errors import WeightsError

N = TypeVar("N", bound=nn.Module)


def fill(network: N, path: Path) -> N:
    """Load ``path`` into a network, which must match it tensor for tensor.

    Raises:
        WeightsError: the file is unreadable or belongs to another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(
            path, f"cannot be read as these weights ({reason})", "give the right safetensors file"
        ) from error
    return network.eval().requires_grad_(False)
