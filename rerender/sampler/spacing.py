"""Which training timesteps are visited, as checkpoints ask for it in their scheduler's config."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from rerender.contracts import Model, Schedule
from rerender.errors import ConfigError


def spaced(steps: int, model: Model, intervals: int) -> list[int]:
    """``steps`` timesteps, decreasing, spaced by the checkpoint's ``timestep_spacing``.

    Args:
        steps: number of steps.
        model: whose spacing, offset and number of training timesteps to use.
        intervals: into how many intervals "leading" divides the training timesteps; one-step
            solvers use ``steps``, multistep solvers ``steps + 1``.

    Raises:
        ConfigError: more steps than training timesteps.
    """
    total = len(model.alphas)
    if not 1 <= steps < total:
        raise ConfigError(
            "sampling.steps", f"must lie in 1..{total - 1}, received {steps}", "20 is usual"
        )
    kind = model.spacing.get("timestep_spacing", "leading")
    if kind == "leading":
        offset = int(model.spacing.get("steps_offset", 0))
        times = np.arange(intervals)[::-1][:steps] * (total // intervals) + offset
    elif kind == "trailing":
        times = np.round(np.arange(total, 0, -total / steps))[:steps] - 1
    else:
        times = np.linspace(0, total - 1, intervals).round()[::-1][:steps]
    return [int(time) for time in times]


def scheduled(times: list[int], alphas: Tensor, last: float) -> Schedule:
    """The schedule that visits ``times`` and ends at alpha-bar ``last``."""
    return Schedule(tuple(times), (*(float(alphas[time]) for time in times), last))
