"""The next key frame's flow, computed by the processor while the device denoises this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from rerender.contracts import FlowEstimator
from rerender.flow.field import Flow
from rerender.video import Clip, Frame

MOST = 24
"""Flows that wait to be asked for: two of each key frame under way."""


class FlowAhead(FlowEstimator):
    """An estimator that answers with what was computed in advance, where it was.

    Args:
        flow: the estimator.
        clip: whose frames are asked for.
        thread: one thread, since an estimator need not bear several.
    """

    def __init__(self, flow: FlowEstimator, clip: Clip, thread: ThreadPoolExecutor) -> None:
        self._flow, self._clip, self._thread = flow, clip, thread
        self._next: list[tuple[int, int]] = []  # begun as soon as any flow is asked for
        self._begun: dict[tuple[int, int], Future[Flow]] = {}

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self._flow.offset(target, source, start)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        return self._flow.pair(first, second)

    def between(self, target: Frame, source: Frame) -> Flow:
        begun = self._begun.pop((target.index, source.index), None)
        flow = self._flow.between(target, source) if begun is None else begun.result()
        self._begin()
        return flow

    def expect(self, target: int, sources: Sequence[int]) -> None:
        """Say which flows the next key frame may ask for. They are begun when the present one asks
        for any: not every constraint does.

        Args:
            target: number of the next key frame.
            sources: numbers of those that it will refer to.
        """
        self._next = [(target, source) for source in sources]

    def _begin(self) -> None:
        video = self._clip.video
        for pair in self._next:
            if pair not in self._begun:
                frames = (video.frame(index) for index in pair)
                self._begun[pair] = self._thread.submit(self._flow.between, *frames)
        self._next = []
        while len(self._begun) > MOST:  # a new anchor was not foreseen: nobody asked for them
            self._begun.pop(next(iter(self._begun))).cancel()


@contextmanager
def ahead(flow: FlowEstimator, clip: Clip, device: torch.device) -> Iterator[FlowAhead | None]:
    """The estimator that works in advance while it lasts; None where nothing is gained by that:
    the network works on the processor too, or the estimator on the device."""
    if device.type == "cpu" or not flow.in_background:
        yield None
        return
    with ThreadPoolExecutor(1, "flow") as thread:
        try:
            yield FlowAhead(flow, clip, thread)
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
