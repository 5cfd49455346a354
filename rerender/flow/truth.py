"""The exact motion of clips that were made by rule: a referee that is no estimator."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rerender.contracts import FlowEstimator
from rerender.errors import ConfigError, InputError
from rerender.flow.field import Flow
from rerender.video import Clip, Frame, Truth


@dataclass(frozen=True)
class TruthFlow(FlowEstimator):
    """Reads the flow that a procedural clip was drawn with.

    Raises:
        InputError: by ``open``, for a clip that carries no true motion.
        ConfigError: if asked for flow before a clip was opened.
    """

    def open(self, clip: Clip) -> FlowEstimator:
        if clip.truth is None:
            raise InputError(
                clip.name,
                "its true motion is not known, received flow=truth",
                "choose flow=dis, or a clip of the demo world",
            )
        return OpenedTruth(clip.truth)

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        raise ConfigError("flow", "the truth of which clip? none was opened", "call open(clip)")


@dataclass(frozen=True)
class OpenedTruth(FlowEstimator):
    """The true flow of one clip, with its true occlusion."""

    truth: Truth

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self.between(target, source).offset

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        return self.between(first, second), self.between(second, first)

    def between(self, target: Frame, source: Frame) -> Flow:
        return self.truth.flow(target.index, source.index)
