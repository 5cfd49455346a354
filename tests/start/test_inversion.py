"""DDIM inversion: closed forms, and how far it is from the exact reverse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerender.contracts import Condition, NoiseRequest, Schedule
from rerender.start._inversion import invert, lower_noise, raise_noise

Noise = Callable[[Tensor, int], Tensor]
NOTHING = Condition(torch.zeros(1, 1, 1))


def latent(seed: int = 0) -> Tensor:
    return torch.randn(
        1, 4, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def cosine(steps: int) -> Schedule:
    """A smooth schedule from nearly pure noise to a nearly clean latent."""
    grid = torch.linspace(0.97, 0.02, steps + 1, dtype=torch.float64)
    alphas_cumprod = torch.cos(grid * torch.pi / 2) ** 2
    return Schedule(tuple(range(steps, 0, -1)), tuple(float(a) for a in alphas_cumprod))


def walked(clean: Tensor, schedule: Schedule, noise: Noise, evaluations: int = 1) -> list[Tensor]:
    """The path of an inversion whose noise estimates are ``noise(noisy, step)``."""
    walk = invert(clean, schedule, lambda x, step: NoiseRequest(x, step, NOTHING, ()), evaluations)
    query = next(walk)
    while True:
        try:
            query = walk.send(noise(query.noisy, query.timestep))
        except StopIteration as stop:
            path: list[Tensor] = stop.value
            return path


def sampled(noisy: Tensor, schedule: Schedule, noise: Noise) -> Tensor:
    for step in range(len(schedule)):
        noisy = lower_noise(schedule, step, noisy, noise(noisy, step))
    return noisy


def gaussian(schedule: Schedule, spread: float) -> Noise:
    """The exact noise estimate where clean latents are normal with this standard deviation."""

    def noise(noisy: Tensor, step: int) -> Tensor:
        alpha = schedule.alphas_cumprod[step]
        predicted: Tensor = (1 - alpha) ** 0.5 / (alpha * spread**2 + 1 - alpha) * noisy
        return predicted

    return noise


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.floats(-0.8, 0.8), st.integers(0, 99))
def test_a_linear_estimate_has_a_closed_form(steps: int, slope: float, seed: int) -> None:
    """With noise = slope * latent every step multiplies by a number."""
    schedule, clean = cosine(steps), latent(seed)
    path = walked(clean, schedule, lambda noisy, step: slope * noisy)
    factor = 1.0
    for before, after in zip(
        schedule.alphas_cumprod[::-1][1:], schedule.alphas_cumprod[::-1], strict=False
    ):
        gain = (before / after) ** 0.5
        factor *= gain + slope * ((1 - before) ** 0.5 - gain * (1 - after) ** 0.5)
    assert len(path) == steps + 1
    assert path[-1] is clean
    assert torch.allclose(path[0], factor * clean)


@given(st.integers(0, 7), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_up_and_down_are_each_others_reverse(step: int, seed: int) -> None:
    schedule, estimate = cosine(8), latent(seed)
    up = raise_noise(schedule, step, latent(seed + 1), estimate)
    assert torch.allclose(lower_noise(schedule, step, up, estimate), latent(seed + 1))


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_the_error_of_inversion_and_sampling_falls_with_the_steps(spread: float) -> None:
    """Of first order: twice the steps, in the end half the error; below 5 % at 40 steps."""

    def error(steps: int) -> float:
        schedule = cosine(steps)
        noise = gaussian(schedule, spread)
        again = sampled(walked(latent(), schedule, noise)[0], schedule, noise)
        return float((again - latent()).norm() / latent().norm())

    errors = [error(steps) for steps in (10, 20, 40, 80)]
    assert errors == sorted(errors, reverse=True)
    assert 0.45 < errors[3] / errors[2] < 0.65, errors
    assert errors[2] < 0.05, errors


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_more_evaluations_approach_the_exact_reverse(spread: float) -> None:
    schedule = cosine(40)
    noise = gaussian(schedule, spread)

    def error(evaluations: int) -> float:
        again = sampled(walked(latent(), schedule, noise, evaluations)[0], schedule, noise)
        return float((again - latent()).norm() / latent().norm())

    assert error(3) < 0.1 * error(1)
    assert error(30) < 1e-9


def test_noise_that_inversion_finds_is_as_large_as_noise() -> None:
    """Latents as the estimate expects them become standard normal."""
    schedule = cosine(200)
    found = walked(2.0 * latent(), schedule, gaussian(schedule, 2.0))[0]
    assert float(found.std()) == pytest.approx(float(latent().std()), rel=0.05)
