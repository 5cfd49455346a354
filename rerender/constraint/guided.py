"""Guided latent update (Pix2Video, Ceylan et al. 2023, arXiv 2303.12688, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from rerender.contracts import Constraint, Edits, Guidance, Model
from rerender.scene import Scene, State


@dataclass(frozen=True, kw_only=True)
class Guided(Constraint):
    """The latent that leaves a step moves towards what would make the predicted clean latent that
    of the previous key frame at the same step: down the gradient, taken through the network, of
    the squared distance between the two.

    Attributes:
        step_size: how far it moves along the negative gradient; 0 leaves attention alone to act.
    """

    step_size: Annotated[float, Field(ge=0, le=100)] = 0.1

    edits_noisy: ClassVar[bool] = True
    needs_previous: ClassVar[bool] = True

    def bind(self, scene: Scene, model: Model) -> Edits:
        if self.step_size == 0:
            return Edits()
        previous = scene.previous.trace

        def loss(state: State, clean: Tensor) -> Tensor:
            return (clean - previous.clean[state.step].to(clean)).square().sum()

        return Edits(guidance=Guidance(loss, self.step_size))
