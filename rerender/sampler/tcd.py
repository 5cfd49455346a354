"""Trajectory consistency (Zheng et al. 2024, arXiv 2402.19159), for distilled checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from rerender.contracts import Model, Sampler, Schedule, StepOutput
from rerender.sampler._spacing import distilled_times
from rerender.scene import Noise, State


@dataclass(frozen=True)
class TCD(Sampler):
    """Jump along the trajectory beyond the next timestep, to s = floor((1 - eta) t_next), and add
    fixed noise back to it: x_s = sqrt(alpha-bar_s) x^0 + sqrt(1 - alpha-bar_s) eps, then
    x_next = sqrt(r) x_s + sqrt(1 - r) noise with r = alpha-bar_next / alpha-bar_s. It ends at the
    first training timestep, without noise.

    Attributes:
        eta: how far beyond (the paper's gamma); 0 is deterministic, 1 jumps to the clean latent.
        origin_steps: number of steps the model was distilled with.
    """

    eta: Annotated[float, Field(ge=0, le=1)] = 0.3
    origin_steps: int = 50

    def schedule(self, steps: int, model: Model) -> Schedule:
        times = distilled_times(steps, self.origin_steps, model, "TCD")
        alphas = [float(model.alphas_cumprod[time]) for time in (*times, 0)]
        beyond = [int((1 - self.eta) * time) for time in (*times[1:], 0)]
        return Schedule(
            tuple(times),
            tuple(alphas),
            beyond=tuple(float(model.alphas_cumprod[time]) for time in beyond),
        )

    def step(
        self, schedule: Schedule, state: State, clean: Tensor, noise_estimate: Tensor, noise: Noise
    ) -> StepOutput:
        target, beyond = schedule.alphas_cumprod[state.step + 1], schedule.beyond[state.step]
        kept = target / beyond
        direction = (kept * (1 - beyond)) ** 0.5 * noise_estimate
        if self.eta > 0 and state.step < len(schedule) - 1:
            direction = direction + (1 - kept) ** 0.5 * noise("tcd", state.step).to(clean)
        return StepOutput(target**0.5 * clean + direction, direction)
