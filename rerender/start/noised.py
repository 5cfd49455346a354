"""The noised source, or noise alone (SDEdit, Meng et al. 2022, arXiv 2108.01073)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import InitialLatent, NoiseRequest, Start, StartContext


@dataclass(frozen=True)
class Noised(Start):
    """The source's latent with as much noise as the first executed step expects; with
    ``sampling.strength=null`` the noise alone."""

    def begin(self, context: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        yield from ()  # it asks for nothing
        fresh = context.noise("start", 0).to(context.latent)
        if context.from_noise:
            return InitialLatent(fresh)
        if not len(context.schedule):
            return InitialLatent(context.latent)
        alpha = context.schedule.alphas_cumprod[0]
        return InitialLatent(alpha**0.5 * context.latent + (1 - alpha) ** 0.5 * fresh)
