"""A method for where flow can be trusted, and a safer one for where it cannot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from rerender.contracts import FlowEstimator, Propagation
from rerender.propagation.chain import KnownLinks, known
from rerender.video import Segment

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guarded(Propagation):
    """Judges the flow of each segment by forward-backward consistency before it is relied on.

    Attributes:
        method: fills a segment whose flow is consistent.
        safer: fills a segment whose flow is not.
        least: share of pixels that must find back, in the worst pair of neighbouring frames.
    """

    method: Propagation
    safer: Propagation
    least: Annotated[float, Field(ge=0, le=1)] = 0.5

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        with ThreadPoolExecutor(2) as pool:
            figures = quality(known(segment, flow.rough(), pool))
        for index, figure in figures.items():
            LOG.info("flow %d-%d: %.1f %% of pixels find back", index, index + 1, 100 * figure)
        worst = min(figures.values())
        if worst < self.least:
            name = type(self.safer).__name__
            LOG.warning(
                "frames %d-%d: flow finds back only %.1f %% of pixels, filled by %s",
                *(segment.start, segment.stop - 1, 100 * worst, name),
            )
        yield from (self.method if worst >= self.least else self.safer).fill(segment, flow)


def quality(links: KnownLinks) -> dict[int, float]:
    """For each link, by the index of its first frame, the share of pixels that find back both
    ways, 0..1."""
    return {
        index: 1 - float(max(there.occluded.mean(), back.occluded.mean()))
        for index, (there, back) in enumerate(
            zip(links.ahead, links.back, strict=True), start=links.first
        )
    }
