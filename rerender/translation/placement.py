"""What is computed where: noise and OpenCV's flow on the processor, moved once to where the model
is; flow and control maps that torch computes on the run's device, to which their frames are moved.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import BatchedFlowEstimator, Control, FlowEstimator
from rerender.contracts.upload import SHARED, upload
from rerender.flow.field import Flow
from rerender.scene import Noise
from rerender.video import Clip, Frame

_SHOWN = 3  # frames: the anchor, the key frame before and the present one


def moved(flow: Flow, device: torch.device) -> Flow:
    """A flow on a device."""
    return Flow(upload(flow.offset, device), upload(flow.occluded, device))


def placed(noise: Noise, device: torch.device) -> Noise:
    """The same draws, on a device."""
    return lambda role, step: upload(noise(role, step), device)


def placed_parts(parts: Parts, device: torch.device | str, back: bool) -> Parts:
    """The same parts, whose flow estimator is shown its frames on a device if torch computes it.

    On a processor, and where a device shares the processor's memory, they are what they were.

    Args:
        parts: the choices of a run.
        device: where the run computes.
        back: whether flow is wanted where the frames lie; else where it was computed, for those who
            compute there too.
    """
    flow, device = parts.flow, torch.device(device)
    if isinstance(flow, PlacedFlow):
        return parts if flow.back == back else replace(parts, flow=replace(flow, back=back))
    if device.type in SHARED or not flow.on_device:
        return parts
    return replace(parts, flow=_placed_flow(flow, ShownFrames(device), back))


def control_map(control: Control, frame: Frame, device: torch.device) -> Tensor:
    """The control map of a frame: on a device where torch computes it, else on the processor."""
    if not control.on_device or device.type in SHARED:
        return control.frame_map(frame)
    return control.frame_map(Frame(frame.index, upload(frame.image, device)))


class ShownFrames:
    """Frames on a device; the last few stay there, since each is looked at for several flows.

    Args:
        device: where they are wanted.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._lock = threading.Lock()  # segments are filled in several threads

    def show(self, frame: Frame) -> Frame:
        """A frame whose image is on the device."""
        image = frame.image
        if image.device.type != "cpu":
            return frame
        with self._lock:
            there = next((there for here, there in self._kept if here is image), None)
        if there is None:
            there = upload(image, self.device)
            with self._lock:
                self._kept = [*self._kept[1 - _SHOWN :], (image, there)]
        return Frame(frame.index, there)


@dataclass(frozen=True)
class PlacedFlow(FlowEstimator):
    """An estimator that is shown its frames on a device.

    Attributes:
        inner: the estimator.
        shown: puts frames there.
        back: whether answers come back to where a frame lay.
    """

    inner: FlowEstimator
    shown: ShownFrames = field(compare=False)
    back: bool

    @property
    def on_device(self) -> bool:
        return True

    def open(self, clip: Clip) -> FlowEstimator:
        return _placed_flow(self.inner.open(clip), self.shown, self.back)

    def check(self) -> None:
        self.inner.check()

    def rough(self) -> FlowEstimator:
        return _placed_flow(self.inner.rough(), self.shown, self.back)

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        first = None if start is None else upload(start, self.shown.device)
        found = self.inner.offset(self.shown.show(target), self.shown.show(source), first)
        return self._answered(found, target)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        pair = self.inner.pair(self.shown.show(first), self.shown.show(second))
        there, back = (
            Flow(self._answered(flow.offset, first), self._answered(flow.occluded, first))
            for flow in pair
        )
        return there, back

    def offsets(self, first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
        there, back = self.inner.offsets(self.shown.show(first), self.shown.show(second))
        return self._answered(there, first), self._answered(back, first)

    def between(self, target: Frame, source: Frame) -> Flow:
        found = self.inner.between(self.shown.show(target), self.shown.show(source))
        return Flow(self._answered(found.offset, target), self._answered(found.occluded, target))

    def _answered(self, found: Tensor, asked: Frame) -> Tensor:
        return found.to(asked.image.device) if self.back else found


@dataclass(frozen=True)
class PlacedBatchedFlow(PlacedFlow, BatchedFlowEstimator):
    """The same of an estimator of many pairs, whose batches are on their device already."""

    inner: BatchedFlowEstimator

    def rough(self) -> BatchedFlowEstimator:
        return PlacedBatchedFlow(self.inner.rough(), self.shown, self.back)

    def estimate(self, target: Tensor, source: Tensor, start: Tensor | None) -> Tensor:
        return self.inner.estimate(target, source, start)


def _placed_flow(flow: FlowEstimator, shown: ShownFrames, back: bool) -> FlowEstimator:
    if isinstance(flow, BatchedFlowEstimator):
        return PlacedBatchedFlow(flow, shown, back)
    return PlacedFlow(flow, shown, back)
