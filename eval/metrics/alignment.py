"""Frames aligned by the source's flow, and the pixels that may be compared."""

from __future__ import annotations

import torch
from torch import Tensor

from rerender.flow.field import Flow


def aligned(flow: Flow, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Squared difference ``[1,H,W]`` of a frame and the flow-aligned other one, and its weight.

    Args:
        flow: from target to source.
        target: ``[3,H,W]``.
        source: ``[3,H,W]``.

    Returns:
        The mean square over channels, and 1 (down to 0) where the pixel is seen in both.
    """
    error = (target - flow.warp(source)).square().mean(0, keepdim=True)
    return error, visible(flow)


def visible(flow: Flow) -> Tensor:
    """``[1,H,W]``: 1 where a target pixel is not occluded and lies inside the source frame."""
    inside = flow.warp(torch.ones_like(flow.occluded)) > 1 - 1e-3
    return (inside * (1 - flow.occluded))[0]


def weighted_mean(values: Tensor, weight: Tensor) -> float | None:
    """Mean of ``values`` under ``weight``, both ``[1,H,W]``; None where no pixel has weight."""
    total = float(weight.sum(dtype=torch.float64))
    return float((values * weight).sum(dtype=torch.float64)) / total if total > 0 else None
