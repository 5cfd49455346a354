"""Null-text inversion (Mokady et al. 2023, arXiv 2211.09794)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from rerender.contracts import InitialLatent, NoiseRequest, Start, StartContext
from rerender.gradients import gradient
from rerender.start._inversion import invert, lower_noise
from rerender.start._source import source_request

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

    def begin(self, context: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        source = context.source_condition()

        def request(noisy: Tensor, step: int) -> NoiseRequest:
            asked = source_request(context, source, noisy, step, self.control)
            return context.edited(asked, step)

        steps = len(context.schedule)
        path = yield from invert(context.latent, context.schedule, request, self.evaluations_a_step)
        null, positive = source.prompt_embeds[:1].float(), context.condition.prompt_embeds[-1:]
        latent, embeds, evaluations = path[0], [], steps * self.evaluations_a_step
        for step in range(steps):
            conditional = yield request(latent, step)
            plain = source_request(context, source, latent, step, self.control)
            branch = _Branch(context, plain, step, conditional)
            null, count = yield from self._settled(branch, null, path[step + 1])
            embeds.append(torch.cat([null.to(positive), positive]))
            unconditional = yield branch.request(null)
            latent = branch.end(unconditional)
            evaluations += count + 2
        return InitialLatent(path[0], tuple(embeds), evaluations)

    def _settled(
        self, branch: _Branch, null: Tensor, target: Tensor
    ) -> Generator[NoiseRequest, Tensor, tuple[Tensor, int]]:
        """The unconditional embedding ``[1,T,D]`` that leads closest to ``target``, and how many
        evaluations it took."""
        null, count = null.clone().requires_grad_(), 0
        rate = self.rate * max(1 - COOLING * branch.step, COOLING)
        optimiser = torch.optim.Adam([null], lr=rate)
        for _ in range(self.iterations):
            unconditional = yield branch.request(null)
            count += 1
            with torch.enable_grad():
                loss = (branch.end(unconditional) - target).square().mean()
            if loss.item() < self.tolerance + EASING * branch.step:
                break
            null.grad = gradient(loss, null, branch.plain.condition.prompt_embeds.dtype)
            optimiser.step()
        return null.detach(), count


@dataclass(frozen=True)
class _Branch:
    """The unconditional branch of one step, beside a conditional one that is known.

    Attributes:
        context: of the key frame.
        plain: the request of the conditional branch, without edits.
        step: the executed step.
        conditional: its noise estimate.
    """

    context: StartContext
    plain: NoiseRequest
    step: int
    conditional: Tensor

    def request(self, null: Tensor) -> NoiseRequest:
        """The evaluation of an unconditional embedding ``[1,T,D]``."""
        with torch.enable_grad():
            embeds = null.to(self.plain.condition.prompt_embeds.dtype)
        return self.plain._replace(condition=replace(self.plain.condition, prompt_embeds=embeds))

    def end(self, unconditional: Tensor) -> Tensor:
        """Where the guided step leads, ``[1,C,h,w]``."""
        scale = self.context.guidance_scale
        guided = unconditional + scale * (self.conditional - unconditional)
        return lower_noise(self.context.schedule, self.step, self.plain.noisy, guided)
