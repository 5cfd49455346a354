"""Null-text inversion (Mokady et al. 2023, arXiv 2211.09794)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import InitialLatent, NoiseRequest, Start, StartContext
from rerender.start._inversion import invert, lower_noise
from rerender.start._source import asking

EASING = 2e-5  # how much the tolerance grows with each step
COOLING = 0.01  # how much the learning rate falls with each step


@dataclass(frozen=True)
class NullText(Start):
    """DDIM inversion, and for each step an unconditional embedding with which guided sampling of
    the source prompt retraces it (Adam; algorithm 1 of the paper). The prompt then takes the
    source prompt's place under the same embeddings.

    Attributes:
        iterations: optimisation steps for each denoising step; 0 is plain inversion.
        rate: learning rate of the first denoising step.
        tolerance: mean squared error of the latent at which a denoising step is settled.
        evaluations_a_step: of the inversion; 1 is usual, more approach the exact reverse.
        control: whether the ControlNets act as they will in sampling.
    """

    iterations: Annotated[int, Field(ge=0, le=1000)] = 10
    rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    tolerance: Annotated[float, Field(ge=0)] = 1e-5
    evaluations_a_step: Annotated[int, Field(ge=1, le=100)] = 1
    control: bool = True

    inverts: ClassVar[bool] = True
    needs_guidance: ClassVar[bool] = True

    def evaluations(self, steps: int) -> int:
        return steps * (self.evaluations_a_step + 2 + self.iterations)

    def begin(self, stage: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        source = stage.source()
        ask = asking(stage, source, self.control)
        path = yield from invert(stage.latent, stage.schedule, ask, self.evaluations_a_step)
        null, positive = source.text[:1].float(), stage.condition.text[-1:]
        latent, texts = path[0], []
        for step in range(len(stage.schedule)):
            wanted = yield ask(latent, step)
            branch = _Branch(stage, ask(latent, step), step, wanted)
            null = yield from self._settled(branch, null, path[step + 1])
            texts.append(torch.cat([null.to(positive), positive]))
            estimate = yield branch.query(null)
            latent = branch.end(estimate)
        return InitialLatent(path[0], tuple(texts))

    def _settled(
        self, branch: _Branch, null: Tensor, target: Tensor
    ) -> Generator[NoiseRequest, Tensor, Tensor]:
        """The unconditional embedding ``[1,T,D]`` that leads closest to ``target``."""
        null = null.clone().requires_grad_()
        rate = self.rate * max(1 - COOLING * branch.step, COOLING)
        optimiser = torch.optim.Adam([null], lr=rate)
        for _ in range(self.iterations):
            estimate = yield branch.query(null)
            with torch.enable_grad():
                loss = (branch.end(estimate) - target).square().mean()
            if loss.item() < self.tolerance + EASING * branch.step:
                break
            (null.grad,) = torch.autograd.grad(loss, null)
            optimiser.step()
        return null.detach()


@dataclass(frozen=True)
class _Branch:
    """The unconditional branch of one step, beside a conditional one that is known."""

    stage: StartContext
    conditional: NoiseRequest
    step: int
    wanted: Tensor

    def query(self, null: Tensor) -> NoiseRequest:
        with torch.enable_grad():
            text = null.to(self.conditional.condition.text.dtype)
        condition = replace(self.conditional.condition, text=text)
        return self.conditional._replace(condition=condition)

    def end(self, estimate: Tensor) -> Tensor:
        """Where the guided step leads, ``[1,C,h,w]``."""
        guided = estimate + self.stage.guidance * (self.wanted - estimate)
        return lower_noise(self.stage.schedule, self.step, self.conditional.noisy, guided)
