"""Motion kept: whether the result moves as the source does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Trial
from eval.metrics.alignment import visible, weighted_mean
from rerender.contracts import FlowEstimator
from rerender.flow.field import norm
from rerender.video import Frame


@dataclass(frozen=True, kw_only=True)
class MotionKept(Metric):
    """End-point error in pixels between the flows of source and result, mean over neighbours.

    ``mean_p |f_source(p) - f_result(p)|`` from frame ``t`` to ``t-1``, over the source's visible
    pixels (V2VBench's motion alignment is minus this, over all pixels). Both flows come from the
    same estimator, one that looks at pictures, so that its own errors are alike on both sides.

    Attributes:
        estimator: optical flow from pictures.
    """

    version: ClassVar[str] = "2"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"
    unit: ClassVar[str] = "px"

    estimator: FlowEstimator

    @property
    def looks_back(self) -> int:
        return 1

    def open(self, trial: Trial) -> Gauge:
        return self._errors

    def _errors(self, batch: Batch) -> Curve:
        pairs = zip(batch.moments, batch.references(), strict=True)
        return [self._error(moment, earlier) for moment, earlier in pairs]

    def _error(self, moment: Moment, earlier: Moment | None) -> float | None:
        if earlier is None:
            return None
        source = self.estimator.between(
            Frame(moment.index, moment.source), Frame(earlier.index, earlier.source)
        )
        result = self.estimator.offset(
            Frame(moment.index, moment.result), Frame(earlier.index, earlier.result)
        )
        return weighted_mean(norm(source.offset - result)[0], visible(source))
