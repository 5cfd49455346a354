"""The denoising loop where an energy moves the latent: closed forms for a linear network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rerender.contracts import Condition, Edits, Guidance, NoiseRequest, Schedule
from rerender.sampler.ddim import DDIM
from rerender.scene import State
from rerender.translation.denoise import BoundEdits, DenoisingTask, Position, denoise, start
from rerender.translation.lanes import run
from rerender.translation.noise import keyed

SLOPE, SIZE = 0.3, 0.05
SCHEDULE = Schedule((900, 500, 100), (0.1, 0.4, 0.8, 0.99))


def predict(queries: Sequence[NoiseRequest]) -> list[Tensor]:
    return [SLOPE * query.noisy for query in queries]


def half_square(state: State) -> Tensor:
    assert state.clean is not None
    return state.clean.square().sum() / 2


def noise(seed: int = 0) -> Tensor:
    return torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


def task(texts: Sequence[Tensor] = ()) -> DenoisingTask:
    return DenoisingTask(
        schedule=SCHEDULE,
        sampler=DDIM(),
        condition=Condition(torch.zeros(1, 2, 2)),
        weights=[()] * 3,
        guidance=1.0,
        noise=keyed(0, (1, 4, 3, 3)),
        ready=lambda step: True,
        texts=texts,
    )


def reached(*edits: tuple[range, Edits]) -> Tensor:
    bound = [BoundEdits(steps, each) for steps, each in edits]
    (position,) = run([denoise(task(), start(noise()), 3, bound)], predict)
    assert isinstance(position, Position)
    assert not position.noisy.requires_grad
    return position.noisy


def sight(step: int) -> float:
    """The predicted clean latent is this many times the noisy one."""
    alpha = SCHEDULE.alphas_cumprod[step]
    return float((1 - (1 - alpha) ** 0.5 * SLOPE) / alpha**0.5)


def gain(step: int) -> float:
    """What a step multiplies the latent by."""
    after = SCHEDULE.alphas_cumprod[step + 1]
    return float(after**0.5 * sight(step) + (1 - after) ** 0.5 * SLOPE)


def test_a_pull_moves_the_latent_that_leaves_the_step() -> None:
    pull = Edits(pull=Guidance(half_square, SIZE))
    expected = (gain(0) * (gain(1) - SIZE * sight(1) ** 2)) * gain(2) * noise()
    assert torch.allclose(reached((range(1, 2), pull)), expected, atol=1e-5)


def test_pulls_add_up_and_a_pull_of_no_size_changes_nothing() -> None:
    whole, half, none = (Edits(pull=Guidance(half_square, size)) for size in (SIZE, SIZE / 2, 0.0))
    every = range(3)
    assert torch.allclose(reached((every, half), (every, half)), reached((every, whole)), atol=1e-5)
    assert torch.allclose(reached((every, none)), reached(), atol=1e-6)
    assert not torch.allclose(reached((every, whole)), reached(), atol=1e-2)


def test_every_step_may_be_told_something_else() -> None:
    heard = []

    def listening(queries: Sequence[NoiseRequest]) -> list[Tensor]:
        heard.extend(float(query.condition.text.sum()) for query in queries)
        return predict(queries)

    texts = [torch.full((1, 2, 2), float(step)) for step in range(3)]
    list(run([denoise(task(texts), start(noise()), 3, ())], listening))
    list(run([denoise(task(), start(noise()), 3, ())], listening))
    assert heard == [0, 4, 8, 0, 0, 0]
