"""How inverting starts look at the source."""

from __future__ import annotations

from torch import Tensor

from rerender.contracts import Condition, NoiseRequest, StartContext


def source_request(
    context: StartContext, condition: Condition, noisy: Tensor, step: int, control: bool
) -> NoiseRequest:
    """The evaluation of the positive branch alone at a latent ``[1,C,h,w]`` and a step.

    Args:
        context: of the key frame.
        condition: told the source prompt.
        noisy: the latent.
        step: the executed step.
        control: whether ControlNets act.
    """
    return context.request(noisy, step, condition.positive, control)
