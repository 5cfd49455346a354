"""The noised source, or noise alone (SDEdit, Meng et al. 2022, arXiv 2108.01073)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import Opening, Query, Stage, Start


@dataclass(frozen=True)
class Noised(Start):
    """The source's latent with as much noise as the first executed step expects; with
    ``sampling.strength=null`` the noise alone."""

    def begin(self, stage: Stage) -> Generator[Query, Tensor, Opening]:
        yield from ()  # it asks for nothing
        fresh = stage.noise("start", 0).to(stage.latent)
        if stage.pure:
            return Opening(fresh)
        if not len(stage.schedule):
            return Opening(stage.latent)
        alpha = stage.schedule.alphas[0]
        return Opening(alpha**0.5 * stage.latent + (1 - alpha) ** 0.5 * fresh)
