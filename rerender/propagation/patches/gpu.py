"""How patches are worked on by a GPU: by Triton's kernels, and without waiting for copies."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def fused(device: torch.device) -> bool:
    """Whether patches are worked on by Triton's kernels: on a GPU where Triton is installed (it
    comes with PyTorch for Linux only)."""
    return device.type == "cuda" and _installed()


@lru_cache(maxsize=1)
def _installed() -> bool:
    found = find_spec("triton") is not None
    if not found:
        log.warning("propagation.backend: no Triton is installed, so patches take plain PyTorch")
    return found


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor on a device, which the processor does not wait for."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
