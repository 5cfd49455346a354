"""Denoising diffusion implicit models (Song et al. 2021, arXiv 2010.02502), eta = 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rerender.contracts import Model, Sampler, Schedule, StepOutput
from rerender.sampler._spacing import scheduled, spaced
from rerender.scene import Noise, State


@dataclass(frozen=True)
class DDIM(Sampler):
    """The paper's sampler, eq. 12 of DDIM without its random term."""

    invertible: ClassVar[bool] = True

    def schedule(self, steps: int, model: Model) -> Schedule:
        final = (
            1.0
            if model.scheduler_config.get("set_alpha_to_one", True)
            else float(model.alphas_cumprod[0])
        )
        return scheduled(spaced(steps, model, steps), model.alphas_cumprod, final)

    def step(
        self, schedule: Schedule, state: State, clean: Tensor, noise_estimate: Tensor, noise: Noise
    ) -> StepOutput:
        alpha = schedule.alphas_cumprod[state.step + 1]
        direction = (1 - alpha) ** 0.5 * noise_estimate
        return StepOutput(alpha**0.5 * clean + direction, direction)
