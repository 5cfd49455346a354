"""Warp error: how much a result changes where the source only moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.contracts import Batch, Curve, Gauge, Metric, Moment, Reading, Reference, Trial
from eval.metrics.alignment import aligned, weighted_mean
from rerender.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WarpError(Metric):
    """Pixel-MSE between a result's frames aligned by the source's flow (Rerender section 5.2).

    ``E_t = sum_p v(p) |y_t(p) - y_r(p + f(p))|^2 / (3 sum_p v(p))`` with ``y`` the result, ``r``
    the previous frame (short range) or the first (long range), ``f`` the flow of the *source* from
    ``t`` to ``r`` and ``v`` the pixels that are not occluded and stay inside the frame. Mean over
    ``t``. The papers state neither scale nor mask; ours follow Lai et al. 2018, who mask.

    Attributes:
        reference: "previous" for short range, "first" for long range.
        span: width of the value range: 1 for [0,1], 2 for [-1,1] (four times the error).
        last: number of frames at the end of the clip that count; None for all. What piles up along
            a clip is seen best at its end (Fig. 15).
    """

    version: ClassVar[str] = "2"
    direction: ClassVar[Literal["lower", "higher"]] = "lower"

    reference: Reference = "previous"
    span: float = 1.0
    last: int | None = None

    @property
    def name(self) -> str:
        """warp_error, with _long for long range, _signed (or the span) for another scale, and
        _lastN where only the last N frames count."""
        scale = {1.0: "", 2.0: "_signed"}.get(self.span, f"_span{self.span:g}")
        end = "" if self.last is None else f"_last{self.last}"
        return f"warp_error{'_long' if self.reference == 'first' else ''}{scale}{end}"

    def __post_init__(self) -> None:
        if self.reference not in ("previous", "first"):
            raise ConfigError(
                "metrics.warp_error.reference",
                f"must be previous or first, received {self.reference!r}",
                "name one of the two",
            )
        if not 0 < self.span <= 255:
            raise ConfigError(
                "metrics.warp_error.span",
                f"the width of a value range lies in (0, 255], received {self.span}",
                "use 1 for [0,1] or 2 for [-1,1]",
            )
        if self.last is not None and self.last < 1:
            raise ConfigError(
                "metrics.warp_error.last",
                f"must be 1 or more frames, received {self.last}",
                "use null for all of them",
            )

    @property
    def looks_back(self) -> int:
        return int(self.reference == "previous")

    def open(self, trial: Trial) -> Gauge:
        return self._errors

    def _errors(self, batch: Batch) -> Curve:
        pairs = zip(batch.moments, batch.references(self.reference), strict=True)
        return [self._error(batch, moment, earlier) for moment, earlier in pairs]

    def _error(self, batch: Batch, moment: Moment, earlier: Moment | None) -> float | None:
        if earlier is None:
            return None
        error, weight = aligned(batch.flow(moment, earlier), moment.result, earlier.result)
        return weighted_mean(error * self.span**2, weight)

    def read(self, curve: Curve, trial: Trial) -> Reading:
        return super().read(curve if self.last is None else curve[-self.last :], trial)
