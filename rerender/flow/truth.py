"""The exact motion of clips that were made by rule: a referee that is no estimator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
        flow = self.truth.flow(target.index, source.index)
        drawn, wanted = flow.offset.shape[-2:], target.image.shape[-2:]
        if drawn == wanted:
            return flow
        # Frames are processed at another size than that at which they are drawn.
        ratio = torch.tensor([wanted[1] / drawn[1], wanted[0] / drawn[0]]).view(1, 2, 1, 1)
        offset = F.interpolate(flow.offset, wanted, mode="area") * ratio
        return Flow(offset, (F.interpolate(flow.occluded, wanted, mode="area") > 0.5).float())
