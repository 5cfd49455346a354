"""Where flow and noise are kept: both are computed on the CPU, and moved once to where the model
is, not by every constraint in every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rerender.flow.field import Flow
from rerender.scene import Noise

_SHARED = ("cpu", "mps")  # the processor's own memory, which needs no pinned copies


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. It passes through pinned memory, so that the processor goes on while it
    is copied; what is computed there afterwards waits for it."""
    if tensor.device.type != "cpu" or device.type in _SHARED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def moved(flow: Flow, device: torch.device) -> Flow:
    """A flow on a device."""
    return Flow(upload(flow.offset, device), upload(flow.occluded, device))


def placed(noise: Noise, device: torch.device) -> Noise:
    """The same draws, on a device."""
    return lambda role, step: upload(noise(role, step), device)
