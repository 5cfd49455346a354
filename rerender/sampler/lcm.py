"""Latent consistency sampling (Luo et al. 2023, arXiv 2310.04378), for distilled checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rerender.contracts import Model, Sampler, Schedule, StepOutput
from rerender.sampler._spacing import distilled_times, scheduled
from rerender.scene import Noise, State

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


@dataclass(frozen=True)
class LCM(Sampler):
    """Jump to the clean latent, add fixed noise, jump again; 4 to 8 steps.

    The network must be a consistency model (or carry an LCM adapter); guidance 1 to 2.

    Attributes:
        origin_steps: number of steps the model was distilled with.
    """

    origin_steps: int = 50

    def schedule(self, steps: int, model: Model) -> Schedule:
        times = distilled_times(steps, self.origin_steps, model, "LCM")
        final = (
            1.0
            if model.scheduler_config.get("set_alpha_to_one", True)
            else float(model.alphas_cumprod[0])
        )
        return scheduled(times, model.alphas_cumprod, final)

    def step(
        self, schedule: Schedule, state: State, clean: Tensor, noise_estimate: Tensor, noise: Noise
    ) -> StepOutput:
        keep, take = consistency_weights(schedule.timesteps[state.step])
        jumped = take * clean + keep * state.noisy
        if state.step == len(schedule) - 1:
            return StepOutput(jumped, jumped - jumped)
        alpha = schedule.alphas_cumprod[state.step + 1]
        direction = (1 - alpha) ** 0.5 * noise("lcm", state.step).to(jumped)
        return StepOutput(alpha**0.5 * jumped + direction, direction)


def consistency_weights(time: Any) -> tuple[Any, Any]:
    """How much of the noisy and of the predicted clean latent a consistency model answers with at
    a timestep, a number or a tensor of them: f(z, t) = keep z + take x. At time 0 it is z itself.
    """
    scaled = time * TIMESTEP_SCALING
    keep = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    take = scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5
    return keep, take
