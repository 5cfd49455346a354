"""What solvers of the diffusion ODE in log signal-to-noise share (DPM-Solver, UniPC)."""

from __future__ import annotations

import math

from torch import Tensor


def log_snr(alpha: float) -> float:
    """Half the logarithm of the signal-to-noise ratio, infinite at alpha = 1."""
    return math.inf if alpha >= 1 else 0.5 * math.log(alpha / (1 - alpha))


def first_order(noisy: Tensor, clean: Tensor, alpha: float, target: float) -> Tensor:
    """The exact solution from ``alpha`` to ``target`` for a constant clean latent."""
    shrink = math.exp(log_snr(alpha) - log_snr(target))
    noise: float = ((1 - target) / (1 - alpha)) ** 0.5
    return noise * noisy + float(target**0.5 * (1 - shrink)) * clean
