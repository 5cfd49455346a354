"""Many launches as one: work of fixed shapes recorded as a CUDA graph, and played again.

A frame of 512x512 keeps a GPU busy for less time than the processor takes to launch its thousand
kernels one by one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

MOST = 2
"""Graphs that are kept: each holds the memory that its work needs."""

Work = Callable[..., tuple[Tensor, ...]]


class CapturedWork(NamedTuple):
    """Work that is done again by one call.

    Attributes:
        given: the tensors that it reads.
        made: the tensors that it writes.
        replay: does it.
    """

    given: list[Tensor]
    made: tuple[Tensor, ...]
    replay: Callable[[], None]


_lock = Lock()
_recordings: OrderedDict[Hashable, CapturedWork] = OrderedDict()


def recorded(work: Work, *inputs: Tensor) -> CapturedWork:
    """The work as a CUDA graph."""
    given, here = [part.clone() for part in inputs], torch.cuda.current_stream()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(2):  # kernels are compiled and constants made before
            work(*given)
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads, which translate the next key frame, may go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        made = work(*given)
    return CapturedWork(given, made, graph.replay)


def graphed(
    key: Hashable, work: Work, *inputs: Tensor, record: Callable[..., CapturedWork] = recorded
) -> tuple[Tensor, ...]:
    """What ``work(*inputs)`` gives, in memory of its own.

    Args:
        key: what the work does, apart from its inputs.
        work: launches the same kernels for inputs of the same shapes, and waits for nothing.
        inputs: on one device.
        record: how work is recorded.
    """
    whole = (key, inputs[0].device, *((part.shape, part.dtype) for part in inputs))
    with _lock, torch.cuda.device_of(inputs[0]):  # type: ignore[no-untyped-call]
        if whole not in _recordings:
            while len(_recordings) >= MOST:
                _recordings.popitem(last=False)
            _recordings[whole] = record(work, *inputs)
        _recordings.move_to_end(whole)
        recording = _recordings[whole]
        for mine, theirs in zip(recording.given, inputs, strict=True):
            mine.copy_(theirs)
        recording.replay()
        return tuple(part.clone() for part in recording.made)
