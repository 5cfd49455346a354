"""The denoising loop where a loss moves the latent: closed forms for a linear network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rerender.contracts import Condition, Edits, Guidance, NoiseRequest, Schedule
from rerender.sampler.ddim import DDIM
from rerender.scene import State
from rerender.translation.denoise import BoundEdits, DenoisingTask, denoise
from rerender.translation.noise import keyed

SLOPE, SIZE = 0.3, 0.05
SCHEDULE = Schedule((900, 500, 100), (0.1, 0.4, 0.8, 0.99))


def predict(requests: Sequence[NoiseRequest]) -> list[Tensor]:
    return [SLOPE * request.noisy for request in requests]


def half_square(state: State, clean: Tensor) -> Tensor:
    return clean.square().sum() / 2


def noise(seed: int = 0) -> Tensor:
    return torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


def task(embeds: Sequence[Tensor] = ()) -> DenoisingTask:
    return DenoisingTask(
        schedule=SCHEDULE,
        sampler=DDIM(),
        condition=Condition(torch.zeros(1, 2, 2)),
        conditioning_scale=[()] * 3,
        guidance_scale=1.0,
        noise=keyed(0, (1, 4, 3, 3)),
        ready=lambda step: True,
        prompt_embeds=embeds,
    )


def ends(walk: Any, predict: Any = predict) -> list[State]:
    """The end of a loop, each request answered alone."""
    request = next(walk)
    while True:
        try:
            request = walk.send(predict([request])[0])
        except StopIteration as stop:
            return [stop.value]


def reached(*edits: tuple[range, Edits]) -> Tensor:
    bound = [BoundEdits(steps, each) for steps, each in edits]
    (end,) = ends(denoise(task(), task().beginning(noise()), 3, bound))
    assert not end.noisy.requires_grad
    return end.noisy


def sight(step: int) -> float:
    """The predicted clean latent is this many times the noisy one."""
    alpha = SCHEDULE.alphas_cumprod[step]
    return float((1 - (1 - alpha) ** 0.5 * SLOPE) / alpha**0.5)


def gain(step: int) -> float:
    """What a step multiplies the latent by."""
    after = SCHEDULE.alphas_cumprod[step + 1]
    return float(after**0.5 * sight(step) + (1 - after) ** 0.5 * SLOPE)


def test_guidance_moves_the_latent_that_leaves_the_step() -> None:
    guided = Edits(guidance=Guidance(half_square, SIZE))
    expected = (gain(0) * (gain(1) - SIZE * sight(1) ** 2)) * gain(2) * noise()
    assert torch.allclose(reached((range(1, 2), guided)), expected, atol=1e-5)


def test_losses_add_up_and_a_step_of_no_size_changes_nothing() -> None:
    whole, half, none = (
        Edits(guidance=Guidance(half_square, size)) for size in (SIZE, SIZE / 2, 0.0)
    )
    every = range(3)
    assert torch.allclose(reached((every, half), (every, half)), reached((every, whole)), atol=1e-5)
    assert torch.allclose(reached((every, none)), reached(), atol=1e-6)
    assert not torch.allclose(reached((every, whole)), reached(), atol=1e-2)


def test_every_step_may_be_told_something_else() -> None:
    heard: list[Any] = []

    def listening(requests: Sequence[NoiseRequest]) -> list[Tensor]:
        heard.extend(float(each.condition.prompt_embeds.sum()) for each in requests)
        return predict(requests)

    embeds = [torch.full((1, 2, 2), float(step)) for step in range(3)]
    for each in (task(embeds), task()):
        ends(denoise(each, each.beginning(noise()), 3, ()), listening)
    assert heard == [0, 4, 8, 0, 0, 0]
