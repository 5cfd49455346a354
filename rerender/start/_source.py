"""How inverting starts look at the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from rerender.contracts import Condition, NoiseRequest, StartContext


def asking(
    stage: StartContext, told: Condition, control: bool
) -> Callable[[Tensor, int], NoiseRequest]:
    """``ask(noisy, step)`` -> the query of the positive branch alone.

    Args:
        stage: gives timesteps and ControlNet strengths.
        told: the condition.
        control: whether ControlNets act.
    """
    positive = replace(told, text=told.text[-1:])

    def ask(noisy: Tensor, step: int) -> NoiseRequest:
        weights = stage.weights[step] if control else (0.0,) * len(stage.weights[step])
        return NoiseRequest(noisy, stage.schedule.timesteps[step], positive, weights)

    return ask
