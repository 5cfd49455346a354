"""Clips whose motion is known: a random picture that shifts by whole pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eval.contracts import Metric
from eval.measure import score
from eval.score_files import Score
from rerender.contracts import FlowEstimator
from rerender.flow.field import Flow
from rerender.video import Clip, Frame, MemoryVideo, Truth


@dataclass(frozen=True)
class Shift(FlowEstimator):
    """Content moves by ``step`` pixels to the right each frame; nothing is occluded."""

    step: int = 0

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        height, width = target.image.shape[-2:]
        offset = torch.zeros(1, 2, height, width)
        offset[:, 0] = self.step * (source.index - target.index)
        return offset

    def between(self, target: Frame, source: Frame) -> Flow:
        offset = self.offset(target, source)
        return Flow(offset, torch.zeros_like(offset[:, :1]))


@dataclass(frozen=True)
class Known:
    """A truth whose translations are given."""

    frames: tuple[Tensor, ...]
    step: int = 0

    def flow(self, target: int, source: int) -> Flow:
        at = (Frame(target, self.frames[target]), Frame(source, self.frames[source]))
        return Shift(self.step).between(*at)

    def translation(self, index: int) -> Tensor | None:
        return self.frames[index]

    def part(self, start: int, prompt: str) -> Truth:
        return self


def picture(height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    """A random image ``[3,H,W]`` in 0..1."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def shifting(frames: int = 10, step: int = 1, seed: int = 0, smooth: int = 1) -> list[Tensor]:
    """Windows of one wide picture, so that content moves right by ``step`` each frame."""
    wide = picture(24 * smooth, (32 + frames * step) * smooth, seed)
    wide = torch.nn.functional.avg_pool2d(wide[None], smooth)[0]
    starts = [(frames - i) * step for i in range(frames)]
    return [wide[:, :, start : start + 32].clone() for start in starts]


def clip_of(frames: list[Tensor], truth: Truth | None = None, **prompts: str) -> Clip:
    """A clip of frames in memory."""
    clip = Clip("toy", MemoryVideo(frames), "a red ball, oil", "a red ball", truth=truth)
    return replace(clip, **prompts)  # type: ignore[arg-type]


def measure(
    metric: Metric,
    source: list[Tensor],
    result: list[Tensor],
    step: int = 0,
    truth: Truth | None = None,
    prompts: dict[str, str] | None = None,
) -> Score:
    """The row of one metric over frames in memory, whose content shifts by ``step``."""
    clip = clip_of(source, truth, **(prompts or {}))
    (row,) = score(clip, MemoryVideo(result), [metric], Shift(step), "ours", 3)
    return row
