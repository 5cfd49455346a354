"""Copies to a device that the processor does not wait for."""

from __future__ import annotations

import torch
from torch import Tensor

SHARED = ("cpu", "mps")  # the processor's own memory, which needs no pinned copies


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. It passes through pinned memory, so that the processor goes on while it
    is copied; what is computed there afterwards waits for it."""
    if tensor.device.type != "cpu" or device.type in SHARED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
