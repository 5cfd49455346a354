"""Fixed noise: every draw is named, so that nothing depends on the order of execution."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from rerender.scene import Noise


def keyed(seed: int, shape: tuple[int, ...], frame: int | None = None) -> Noise:
    """Standard normal draws of one shape, a function of (seed, frame, role, step) alone.

    Args:
        seed: the run's seed.
        shape: shape of a latent, ``(1,C,h,w)``.
        frame: None gives every key frame the same noise, as the paper does; an index gives a
            frame its own.

    Returns:
        ``noise(role, step)`` on the CPU in float32, so that all devices see the same numbers.
    """

    def draw(role: str, step: int) -> Tensor:
        return torch.randn(shape, generator=generator(f"{seed}/{frame}/{role}/{step}"))

    return draw


def generator(name: str) -> torch.Generator:
    """A generator on the CPU that is seeded by a name alone."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(key)
