"""The contract of a metric, and what it looks at: Trial, Moment, Batch, Reading.

A metric turns each frame of a result into a number (its curve) and the curve into one value. All
metrics share one pass over the two videos, so they are given batches of frames and hold no frame
longer than that. What cannot be measured is None and says why; it is never 0 and never NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from rerender.contracts import FlowEstimator
from rerender.flow.field import Flow
from rerender.video import Clip, Frame, Video

Value = TypeVar("Value")
Reference = Literal["previous", "first"]


class UnavailableError(Exception):
    """A metric cannot be measured here; the message is the reason that its row gives."""


@dataclass(frozen=True)
class Trial:
    """One result under test.

    Attributes:
        clip: the source video, its prompts, and the truth where it is known.
        result: what a method made of it.
        flow: estimator for the source's motion, opened for this clip.
        device: where networks run.
    """

    clip: Clip
    result: Video
    flow: FlowEstimator
    device: str = "cpu"


@dataclass(frozen=True)
class Moment:
    """The same moment in both videos.

    Attributes:
        index: frame number, from 0.
        source: ``[3,H,W]`` in 0..1.
        result: ``[3,H,W]`` in 0..1, at the source's size.
    """

    index: int
    source: Tensor
    result: Tensor


@dataclass(frozen=True)
class Batch:
    """Consecutive moments, with what came just before them and with the first of the clip.

    Attributes:
        moments: in display order.
        previous: the moment before the first of them; None at the start of the clip.
        first: the first moment of the clip.
        estimator: estimator for the source's motion.
    """

    moments: tuple[Moment, ...]
    previous: Moment | None
    first: Moment
    estimator: FlowEstimator
    shared: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def results(self) -> Tensor:
        """The result's frames, ``[B,3,H,W]``."""
        return torch.stack([moment.result for moment in self.moments])

    @property
    def sources(self) -> Tensor:
        """The source's frames, ``[B,3,H,W]``."""
        return torch.stack([moment.source for moment in self.moments])

    def references(self, which: Reference = "previous") -> list[Moment | None]:
        """For each moment the one it is compared with; None for the first of the clip."""
        if which == "previous":
            return [self.previous, *self.moments[:-1]]
        return [None if moment.index == self.first.index else self.first for moment in self.moments]

    def flow(self, target: Moment, source: Moment) -> Flow:
        """The source video's flow from one moment to another, estimated once for all metrics."""
        frames = Frame(target.index, target.source), Frame(source.index, source.source)
        return self.once(
            ("flow", target.index, source.index), lambda: self.estimator.between(*frames)
        )

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """``make()``, computed once and shared by all metrics that ask under this key."""
        if key not in self.shared:
            self.shared[key] = make()
        kept: Value = self.shared[key]
        return kept


Curve = Sequence[float | None]
Gauge = Callable[[Batch], Curve]
"""One number for each moment of a batch, None where it is undefined (such as the change at the
first frame). It is called with the batches of a clip in order and may remember between them."""


class Reading(NamedTuple):
    """What a metric says of a whole clip.

    Attributes:
        value: None where undefined.
        n: number of frames (or pairs of frames) behind it.
        note: what a reader must know: the backbone, or why there is no value.
    """

    value: float | None
    n: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """A number that says how good a result is, with a versioned definition.

    Class attributes:
        version: changes whenever the same input may give another value.
        direction: whether "lower" or "higher" is better.
        unit: of the value; "1" for a pure number.
    """

    version: ClassVar[str]
    direction: ClassVar[Literal["lower", "higher"]]
    unit: ClassVar[str] = "1"
    paired: ClassVar[bool] = True  # whether it needs to know which frames belong together

    @property
    def looks_back(self) -> int:
        """How many frames before it a value of the curve looks at. Values that would look over the
        border between two shots of the source are left out."""
        return 0

    @property
    def name(self) -> str:
        """The word that stands in the rows: the metric's file, and what sets a variant apart. The
        same name always means the same definition."""
        return type(self).__module__.rpartition(".")[2]

    def check(self, trial: Trial) -> None:  # noqa: B027
        """Refuse what cannot be measured, before any work.

        Raises:
            UnavailableError: weights, truth or prompts are missing; the message says which.
        """

    @abstractmethod
    def open(self, trial: Trial) -> Gauge:
        """Get ready for one clip. What lasts over the clip lives in the gauge."""

    def read(self, curve: Curve, trial: Trial) -> Reading:
        """The clip's value: the mean over the frames where the curve is defined."""
        defined = [value for value in curve if value is not None]
        if not defined:
            return Reading(None, 0, "n/a: undefined in every frame")
        return Reading(math.fsum(defined) / len(defined), len(defined), self.note())

    def note(self) -> str:
        """What belongs beside every value, such as the backbone's name and hash."""
        return ""


@dataclass(frozen=True, kw_only=True)
class SeveralResults(Metric):
    """A number for several results of one clip by one method, such as those of several seeds."""

    def check(self, trial: Trial) -> None:
        raise UnavailableError("needs several seeds side by side: python -m eval.score RESULTS")

    def open(self, trial: Trial) -> Gauge:
        return lambda batch: [None] * len(batch.moments)

    def check_weights(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            UnavailableError: weights are missing; the message says which.
        """

    @abstractmethod
    def across(self, trial: Trial, results: Sequence[Video]) -> Reading:
        """What is said of at least two results.

        Args:
            trial: the clip, and the first of the results.
            results: all of them, in the order of their seeds.
        """
