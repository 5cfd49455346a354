"""Attention outputs taken over from pivots (TokenFlow, Geyer et al. 2024, arXiv 2307.10373, section
4.2, eq. 4-5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def beside(ordinal: int, pivots: Iterable[int]) -> list[tuple[int, float]]:
    """The pivots before and after a key frame and their weights: ``s(d_a / (d_a + d_b))`` for the
    one before, d being distances in key frames; a single pivot on one side has all the weight."""
    found = sorted(pivots)
    before = [pivot for pivot in found if pivot < ordinal][-1:]
    after = [pivot for pivot in found if pivot > ordinal][:1]
    if not (before and after):
        return [((before or after)[0], 1.0)]
    weight = eased((after[0] - ordinal) / (after[0] - before[0]))
    return [(before[0], weight), (after[0], 1 - weight)]


def taken_over(
    ordinal: int,
    pivots: Iterable[int],
    answers: Mapping[int, Tensor],
    neighbours: Callable[[int, int], Tensor],
) -> Tensor:
    """What a key frame answers, put together from the answers of pivots.

    Args:
        ordinal: of the key frame, no pivot itself.
        pivots: ordinals of the pivots.
        answers: ``[B,N,C]`` of each pivot.
        neighbours: ``neighbours(ordinal, pivot)``: for each token of the key frame the most similar
            one of the pivot, ``[N]``.

    Returns:
        ``[B,N,C]``.
    """
    shares = [
        weight * answers[pivot][:, neighbours(ordinal, pivot).long()]
        for pivot, weight in beside(ordinal, pivots)
    ]
    return torch.stack(shares).sum(0)


def nearest(tokens: Tensor, others: Tensor) -> Tensor:
    """For each of ``tokens [N,C]`` the most similar (cosine) of ``others [M,C]``, ``[N]``."""
    similarity = F.normalize(tokens.float(), dim=-1) @ F.normalize(others.float(), dim=-1).T
    return similarity.argmax(-1)


def eased(share: float, steepness: float = 12.0) -> float:
    """A sigmoid from 0 at 0 to 1 at 1."""
    low, high, at = (1 / (1 + math.exp(steepness * (0.5 - x))) for x in (0.0, 1.0, share))
    return (at - low) / (high - low)
