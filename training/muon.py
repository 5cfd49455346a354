"""Muon (Jordan, 2024): momentum whose matrix updates are made orthogonal.

On the demo model it reaches a given loss in far fewer steps than AdamW, which matters where a
step costs half a second. Convolutions count as matrices ``[out, in * k * k]``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)  # Newton-Schulz coefficients of the Muon note


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, with the size of a typical AdamW update (0.2 root mean square).

    Args:
        parameters: weights of two or more dimensions.
        lr: learning rate, on AdamW's scale.
        weight_decay: decoupled.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    push = self._push(weight, weight.grad).flatten(1)
                    alike[push.shape].append((weight, push))
            for members in alike.values():
                turned = orthogonal(torch.stack([push for _, push in members]))
                size = 0.2 * max(turned.shape[1:]) ** 0.5
                for (weight, _), update in zip(members, turned, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update.view(weight.shape), alpha=-group["lr"] * size)

    def _push(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Nesterov momentum."""
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        momentum.mul_(_MOMENTUM).add_(gradient)
        return gradient.add(momentum, alpha=_MOMENTUM)


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices to ``[N,A,B]``, roughly, by Newton-Schulz.

    All rounds run on the smaller Gram matrix, a third of the cost for convolutions.
    """
    a, b, c = _QUINTIC
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = x @ x.transpose(1, 2)
    eye = torch.eye(gram.shape[1], dtype=x.dtype, device=x.device)
    product = eye
    for turn in range(rounds):
        factor = a * eye + b * gram + c * (gram @ gram)
        product = factor @ product if turn else factor
        if turn + 1 < rounds:
            gram = factor @ gram @ factor
    x = product @ x
    return x if wide else x.transpose(1, 2)
