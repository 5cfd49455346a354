"""DDIM inversion (Song et al. 2021, arXiv 2010.02502, §4.3): from a clean latent to the noise that
samples it."""

from __future__ import annotations

from collections.abc import Callable, Generator

from torch import Tensor

from rerender.contracts import NoiseRequest, Schedule


def invert(
    latent: Tensor,
    schedule: Schedule,
    request: Callable[[Tensor, int], NoiseRequest],
    evaluations: int = 1,
) -> Generator[NoiseRequest, Tensor, list[Tensor]]:
    """Walk the executed steps backwards, asking for one or more evaluations in each.

    The exact reverse of a step needs the noise estimate at its unknown beginning. One evaluation
    takes it at the step's end, as usual, with an error that falls with the number of steps;
    further ones look again where the last one led (fixed-point iteration), which converges to the
    exact reverse where the steps are small.

    Args:
        latent: the clean latent ``[1,C,h,w]``, the end of the last step.
        schedule: the executed steps.
        request: ``request(noisy, step)``: the evaluation at a latent and a step, of one branch.
        evaluations: for each step, at least 1.

    Returns:
        The latents that enter each step, and the clean one: ``path[i]`` belongs to
        ``schedule.alphas_cumprod[i]`` (as the generator's value).
    """
    path = [latent]
    for step in reversed(range(len(schedule))):
        guess = path[-1]
        for _ in range(evaluations):
            estimate = yield request(guess, step)
            guess = raise_noise(schedule, step, path[-1], estimate)
        path.append(guess)
    return path[::-1]


def raise_noise(schedule: Schedule, step: int, latent: Tensor, estimate: Tensor) -> Tensor:
    """The beginning of a DDIM step from its end and its noise estimate, all ``[1,C,h,w]``."""
    before, after = schedule.alphas_cumprod[step], schedule.alphas_cumprod[step + 1]
    clean = (latent - (1 - after) ** 0.5 * estimate) / after**0.5
    raised: Tensor = before**0.5 * clean + (1 - before) ** 0.5 * estimate
    return raised


def lower_noise(schedule: Schedule, step: int, latent: Tensor, estimate: Tensor) -> Tensor:
    """The end of a DDIM step from its beginning and its noise estimate, all ``[1,C,h,w]``."""
    before, after = schedule.alphas_cumprod[step], schedule.alphas_cumprod[step + 1]
    clean = (latent - (1 - before) ** 0.5 * estimate) / before**0.5
    lowered: Tensor = after**0.5 * clean + (1 - after) ** 0.5 * estimate
    return lowered
