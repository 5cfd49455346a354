"""Colour-aware adaptive instance normalisation (Rerender §4.1): late steps take the anchor's
channel statistics."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import Constraint, Edits, Model
from rerender.scene import Scene, State

EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class Color(Constraint):
    """The predicted clean latent takes the channel statistics that the anchor's had at the same
    step (AdaIN, Huang & Belongie 2017):

        x^0_t <- std(a) * (x^0_t - mean(x^0_t)) / std(x^0_t) + mean(a),   a = x^0_t of the anchor
    """

    def bind(self, scene: Scene, model: Model) -> Edits:
        anchor = scene.anchor.trace

        def match(state: State, clean: Tensor) -> Tensor:
            return adain(clean, anchor.clean[state.step].to(clean))

        return Edits(clean=match)


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give ``content [1,C,h,w]`` the mean and standard deviation of ``style`` in every channel.

    As in the published system the content's variance is the biased one and the style's the
    unbiased one, both with 1e-5 added.
    """
    mean, variance = content.mean((2, 3), True), content.var((2, 3), unbiased=False, keepdim=True)
    target = style.var((2, 3), unbiased=True, keepdim=True)
    normal = (content - mean) / (variance + EPSILON).sqrt()
    return normal * (target + EPSILON).sqrt() + style.mean((2, 3), True)
