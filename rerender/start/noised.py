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

    def begin(self, stage: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        yield from ()  # it asks for nothing
        fresh = stage.noise("start", 0).to(stage.latent)
        if stage.pure:
            return InitialLatent(fresh)
        if not len(stage.schedule):
            return InitialLatent(stage.latent)
        alpha = stage.schedule.alphas_cumprod[0]
        return InitialLatent(alpha**0.5 * stage.latent + (1 - alpha) ** 0.5 * fresh)
