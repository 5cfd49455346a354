"""Features moved towards the source's correspondences (FRESCO, Yang et al. 2024, arXiv 2403.12962,
section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.flow.field import Flow

ROUNDING = 1e-4  # differences of features below it are none

Pair = tuple[int, int, Flow]
"""(target, source, flow from target to source): two frames of a batch, by their place in it."""


def temporal_loss(features: Tensor, pairs: Sequence[Pair]) -> Tensor:
    """Mean over the pairs of ``|f_target - w(f_source)|`` where the target is visible, eq. 4.

    Args:
        features: ``[G,C,h,w]``.
        pairs: frames and the flow between them at ``h x w``.
    """
    total = features.new_zeros(())
    for target, source, flow in pairs:
        visible = (1 - flow.occluded).to(features)
        apart = features[target] - flow.warp(features[source], outside="border")
        # The slope of |x| is a sign: without a dead zone, Adam would turn rounding into motion.
        total = total + ((visible * apart).abs() - ROUNDING).clamp_min(0).mean()
    return total / max(len(pairs), 1)


def spatial_loss(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean ``|S(f) - S_source|`` of cosine self-similarities, eq. 5.

    Args:
        features: ``[G,C,h,w]``.
        wanted: `similarities` of the source's features, ``[G,N,N]``.
    """
    return (similarities(features) - wanted).abs().mean()


def similarities(features: Tensor) -> Tensor:
    """Cosine similarity of every two cells of ``[G,C,h,w]``, ``[G,N,N]``."""
    unit = F.normalize(features.flatten(2), dim=1)
    return unit.mT @ unit


def optimised(
    features: Tensor,
    pairs: Sequence[Pair],
    wanted: Tensor,
    iterations: int,
    rate: float,
    spatial_weight: float,
) -> tuple[Tensor, list[Tensor]]:
    """Features ``[G,C,h,w]`` with a lower ``temporal_loss + spatial_weight * spatial_loss``, by
    Adam; the best of all iterations, so that more of them never do worse.

    Args:
        features: where to begin.
        pairs, wanted: see the losses.
        iterations: of Adam; 0 gives the features back.
        rate: learning rate, in standard deviations of the features.
        spatial_weight: of the spatial loss.

    Returns:
        The features, and the lowest loss ``[]`` found before each iteration and at the end.
    """
    begun = features.detach().float()
    best, lowest, losses = begun, begun.new_full((), float("inf")), list[Tensor]()
    with torch.enable_grad():
        moving = begun.clone().requires_grad_()
        optimiser = torch.optim.Adam([moving], lr=rate * float(begun.std()))
        for iteration in range(iterations + 1):
            loss = temporal_loss(moving, pairs) + spatial_weight * spatial_loss(moving, wanted)
            better = loss.detach() < lowest  # chosen where it is: the processor does not wait
            best = torch.where(better, moving.detach(), best)
            lowest = torch.where(better, loss.detach(), lowest)
            losses.append(lowest)
            if iteration < iterations:
                (moving.grad,) = torch.autograd.grad(loss, moving)
                optimiser.step()
    # What was moved is added to the features themselves: they keep the graph that they belong to.
    return features + (best - begun).to(features), losses


def with_statistics_of(features: Tensor, wanted: Tensor) -> Tensor:
    """``[G,C,h,w]`` with the mean and standard deviation that every channel has in ``wanted``."""
    means = (each.mean((2, 3), keepdim=True) for each in (features, wanted))
    spreads = (each.std((2, 3), keepdim=True) + 1e-5 for each in (features, wanted))
    (mean, target), (spread, target_spread) = means, spreads
    return (features - mean) / spread * target_spread + target
