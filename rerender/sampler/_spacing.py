"""Which training timesteps are visited, as checkpoints ask for it in their scheduler's config."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
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
        ConfigError: more steps than training timesteps, or the checkpoint's offset leads beyond
            the last of them.
    """
    total = len(model.alphas_cumprod)
    if not 1 <= steps < total:
        raise ConfigError(
            "sampling.steps", f"must lie in 1..{total - 1}, received {steps}", "20 is usual"
        )
    kind = model.scheduler_config.get("timestep_spacing", "leading")
    times: NDArray[Any]
    if kind == "leading":
        offset = int(model.scheduler_config.get("steps_offset", 0))
        times = np.arange(intervals)[::-1][:steps] * (total // intervals) + offset
    elif kind == "trailing":
        times = np.round(np.arange(total, 0, -total / steps))[:steps] - 1
    else:
        times = np.linspace(0, total - 1, intervals).round()[::-1][:steps]
    if times[0] >= total:
        raise ConfigError(
            "sampling.steps",
            f"{steps} steps begin at timestep {int(times[0])} of this checkpoint's {total} "
            f"(steps_offset={model.scheduler_config.get('steps_offset', 0)})",
            "take fewer steps",
        )
    return [int(time) for time in times]


def distilled_times(steps: int, origin_steps: int, model: Model, name: str) -> list[int]:
    """``steps`` of the ``origin_steps`` timesteps that a model was distilled with, decreasing.

    Args:
        steps: number of steps.
        origin_steps: number of steps of the distillation.
        model: whose number of training timesteps to use.
        name: of the sampler, for the message.

    Raises:
        ConfigError: more steps than the distillation had.
    """
    total = len(model.alphas_cumprod)
    if not 1 <= steps <= origin_steps <= total:
        raise ConfigError(
            "sampling.steps",
            f"{name} needs 1 <= steps <= origin_steps <= {total}, received {steps} and "
            f"{origin_steps}",
            "4 to 8 steps are usual",
        )
    origin = np.arange(1, origin_steps + 1) * (total // origin_steps) - 1
    picked = np.floor(np.linspace(0, len(origin), num=steps, endpoint=False)).astype(int)
    return [int(time) for time in origin[::-1][picked]]


def solver_end(model: Model) -> float:
    """Alpha-bar that multistep solvers end at: 1, or that of the first training timestep where the
    checkpoint's ``final_sigmas_type`` is sigma_min."""
    kept = model.scheduler_config.get("final_sigmas_type", "zero") == "sigma_min"
    return float(model.alphas_cumprod[0]) if kept else 1.0


def scheduled(times: list[int], alphas_cumprod: Tensor, last: float) -> Schedule:
    """The schedule that visits ``times`` and ends at alpha-bar ``last``."""
    return Schedule(tuple(times), (*(float(alphas_cumprod[time]) for time in times), last))
