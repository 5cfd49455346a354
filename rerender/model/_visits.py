"""Networks that are on a device only while they work, and wait in the processor's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from torch import nn


class Visits:
    """Moves networks to a device for as long as they are called.

    Args:
        device: where they compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = RLock()  # nobody moves away what another thread computes with
        self._stay: set[nn.Module] = set()

    @contextmanager
    def __call__(self, *networks: nn.Module) -> Iterator[None]:
        """Networks are on the device while the block runs. Where gradients are asked for they stay
        from then on: what goes back through a network needs its weights, and comes later."""
        with self._lock:
            if torch.is_grad_enabled():
                self._stay.update(networks)
            for network in networks:
                nn.Module.to(network, self._device)
            try:
                yield
            finally:
                for network in networks:
                    if network not in self._stay:
                        nn.Module.to(network, "cpu")
