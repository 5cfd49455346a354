"""Gradients through networks that compute in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST, SMALLEST = 16, -8
"""Exponents of two between which a loss is scaled."""


def gradient(loss: Tensor, of: Tensor, dtype: torch.dtype, retain_graph: bool = False) -> Tensor:
    """dL/dx by backpropagation, with the loss scaled where networks compute in float16:

        g = (1/S) d(S L)/dx,   S = 2^16, divided by 16 while g has a value that is not finite

    float16 rounds what is below 6e-8 to zero, and gradients of a mean over a latent or a picture
    are below that. Other types have the range of float32, and S = 1 for them (Micikevicius et al.
    2018, arXiv 1710.03740).

    Args:
        loss: L, a scalar with a graph.
        of: x, any shape, a leaf or a node of that graph.
        dtype: in which the networks between the two compute.
        retain_graph: keep the graph for another call.

    Returns:
        The gradient in the shape and type of x. Not finite where S = 2^-8 does not help either:
        such a latent is refused when its picture is made.
    """
    if dtype != torch.float16:
        (found,) = torch.autograd.grad(loss, of, retain_graph=retain_graph)
        return found
    for exponent in range(LARGEST, SMALLEST - 1, -4):
        last = exponent == SMALLEST
        scaled = torch.autograd.grad(
            loss * 2.0**exponent, of, retain_graph=retain_graph or not last
        )
        found = scaled[0] * 2.0**-exponent
        if last or bool(torch.isfinite(found).all()):
            break
    return found
