"""UniPC (Zhao et al. 2023, arXiv 2302.04867): a predictor-corrector of order 2, B(h) = e^h - 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from rerender.contracts import Model, Sampler, Schedule, StepOutput
from rerender.sampler._exponential import first_order, log_snr
from rerender.sampler._spacing import scheduled, solver_end, spaced
from rerender.scene import Noise, State


class _Past(NamedTuple):
    """The latent a prediction started from, and the clean latents up to there, newest first."""

    noisy: Tensor
    cleans: tuple[Tensor, ...]


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC-2 on the clean latent. It recomputes the latent it arrived at from the one before, so
    an edit of the noisy latent between two steps would be lost: such constraints are refused."""

    rewrites_past: ClassVar[bool] = True

    def schedule(self, steps: int, model: Model) -> Schedule:
        return scheduled(spaced(steps, model, steps + 1), model.alphas_cumprod, solver_end(model))

    def step(
        self, schedule: Schedule, state: State, clean: Tensor, noise_estimate: Tensor, noise: Noise
    ) -> StepOutput:
        past: _Past | None = state.history
        noisy = state.noisy if past is None else _correct(schedule, state.step, clean, past)
        cleans = (clean, *(past.cleans[:1] if past else ()))
        last = state.step == len(schedule) - 1
        moved = _predict(schedule, state.step, noisy, cleans[:1] if last else cleans)
        alpha = schedule.alphas_cumprod[state.step + 1]
        return StepOutput(moved, moved - alpha**0.5 * clean, _Past(noisy, cleans))


def _slope(schedule: Schedule, step: int, cleans: tuple[Tensor, ...]) -> tuple[Tensor, float]:
    """Finite difference of the last two clean latents, and their distance r over the next one."""
    here = log_snr(schedule.alphas_cumprod[step])
    ratio = (log_snr(schedule.alphas_cumprod[step - 1]) - here) / (
        log_snr(schedule.alphas_cumprod[step + 1]) - here
    )
    return (cleans[1] - cleans[0]) / ratio, ratio


def _predict(schedule: Schedule, step: int, noisy: Tensor, cleans: tuple[Tensor, ...]) -> Tensor:
    """UniP: order 2 where two clean latents are known."""
    alpha, target = schedule.alphas_cumprod[step], schedule.alphas_cumprod[step + 1]
    moved = first_order(noisy, cleans[0], alpha, target)
    if len(cleans) == 1:
        return moved
    slope, _ = _slope(schedule, step, cleans)
    shrink = math.expm1(log_snr(alpha) - log_snr(target))
    return moved - float(target**0.5 * shrink * 0.5) * slope


def _correct(schedule: Schedule, step: int, clean: Tensor, past: _Past) -> Tensor:
    """UniC: the arrival of the step before, computed again with the clean latent found there."""
    alpha, target = schedule.alphas_cumprod[step - 1], schedule.alphas_cumprod[step]
    moved = first_order(past.noisy, past.cleans[0], alpha, target)
    h = log_snr(target) - log_snr(alpha)
    shrink = math.expm1(-h)
    change = clean - past.cleans[0]
    if len(past.cleans) == 1:
        return moved - float(target**0.5 * shrink * 0.5) * change
    slope, ratio = _slope(schedule, step - 1, past.cleans)
    # Solve [[1, 1], [r, 1]] rho = (b1, b2), the order conditions for B(h) = e^-h - 1.
    phi1 = shrink / -h - 1
    phi2 = phi1 / -h - 0.5
    b1, b2 = phi1 / shrink, 2 * phi2 / shrink
    rho = (b1 - b2) / (1 - ratio)
    return moved - float(target**0.5 * shrink) * (rho * slope + (b1 - rho) * change)
