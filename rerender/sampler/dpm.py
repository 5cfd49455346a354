"""DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095), a multistep solver on the clean latent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import Model, Sampler, Schedule, StepOutput
from rerender.sampler._exponential import first_order, log_snr
from rerender.sampler._spacing import scheduled, solver_end, spaced
from rerender.scene import Noise, State


@dataclass(frozen=True)
class DPM(Sampler):
    """Second-order multistep solver, algorithm 2 of the paper; the first and the last step are of
    first order. Edits of the clean latent enter its history like predictions."""

    def schedule(self, steps: int, model: Model) -> Schedule:
        return scheduled(spaced(steps, model, steps + 1), model.alphas_cumprod, solver_end(model))

    def step(
        self, schedule: Schedule, state: State, clean: Tensor, noise_estimate: Tensor, noise: Noise
    ) -> StepOutput:
        alpha, target = schedule.alphas_cumprod[state.step], schedule.alphas_cumprod[state.step + 1]
        signal = clean
        if state.history is not None and state.step < len(schedule) - 1:
            # The last interval over the one before it weighs the slope of the clean latent.
            before = log_snr(schedule.alphas_cumprod[state.step - 1])
            ratio = (log_snr(alpha) - before) / (log_snr(target) - log_snr(alpha))
            signal = signal + (signal - state.history) / (2 * ratio)
        noisy = first_order(state.noisy, signal, alpha, target)
        return StepOutput(noisy, noisy - target**0.5 * clean, clean)
