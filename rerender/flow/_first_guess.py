"""A first guess for estimators that always start from nothing."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rerender.flow.field import warp

Estimate = Callable[[Tensor, Tensor], Tensor]
"""Offsets ``[1,2,H,W]`` from one image ``[3,H,W]`` to another."""


def led(estimate: Estimate, target: Tensor, source: Tensor, start: Tensor | None) -> Tensor:
    """The offsets ``[1,2,H,W]`` from target to source, where there is a guess as its correction.

    The source is warped by the guess; what the estimator still finds between it and the target is
    added: ``offset(p) = rest(p) + start(p + rest(p))``. Where the guess is good the rest is small,
    and small motions are what networks seldom get wrong.

    Args:
        estimate: finds the flow between two images.
        target, source: ``[3,H,W]``.
        start: a first guess ``[1,2,H,W]``, if there is one.
    """
    if start is None:
        return estimate(target, source)
    guess = start.to(target)
    rest = estimate(target, warp(source[None], guess, outside="border")[0])
    return rest + warp(guess, rest, outside="border")
