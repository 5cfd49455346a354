"""The noise that samples the source (DDIM inversion, Song et al. 2021, arXiv 2010.02502)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from rerender.contracts import InitialLatent, NoiseRequest, Start, StartContext
from rerender.start._inversion import invert
from rerender.start._source import source_request


@dataclass(frozen=True)
class DDIMInversion(Start):
    """The source's latent carried back through the executed steps, told the source prompt and
    without guidance; ``sampling.strength=null`` goes back through all steps.

    Attributes:
        evaluations_a_step: 1 is usual, more approach the exact reverse.
        control: whether the ControlNets act as they will in sampling.
    """

    evaluations_a_step: Annotated[int, Field(ge=1, le=100)] = 1
    control: bool = True

    inverts: ClassVar[bool] = True

    def begin(self, context: StartContext) -> Generator[NoiseRequest, Tensor, InitialLatent]:
        source = context.source_condition()

        def request(noisy: Tensor, step: int) -> NoiseRequest:
            asked = source_request(context, source, noisy, step, self.control)
            return context.edited(asked, step)

        path = yield from invert(context.latent, context.schedule, request, self.evaluations_a_step)
        return InitialLatent(path[0], evaluations=self.evaluations(len(context.schedule)))

    def evaluations(self, steps: int) -> int:
        return steps * self.evaluations_a_step
