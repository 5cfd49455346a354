"""Many launches as one: work of fixed shapes recorded as a CUDA graph, and played again.

A frame of 512x512 keeps a GPU busy for less time than the processor takes to launch its thousand
kernels one by one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import torch
from torch import Tensor

MOST = 2
"""Graphs that are kept: each holds the memory that its work needs."""

Work = Callable[..., tuple[Tensor, ...]]

_lock = Lock()
_graphs: OrderedDict[Hashable, tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]] = (
    OrderedDict()
)


def graphed(key: Hashable, work: Work, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What ``work(*inputs)`` gives, in memory of its own.

    Args:
        key: what the work does, apart from its inputs.
        work: launches the same kernels for inputs of the same shapes, and waits for nothing.
        inputs: on one GPU.
    """
    whole = (key, inputs[0].device, *((part.shape, part.dtype) for part in inputs))
    with _lock, torch.cuda.device_of(inputs[0]):  # type: ignore[no-untyped-call]
        if whole not in _graphs:
            while len(_graphs) >= MOST:
                _graphs.popitem(last=False)
            _graphs[whole] = recorded(work, *inputs)
        _graphs.move_to_end(whole)
        graph, given, made = _graphs[whole]
        for mine, theirs in zip(given, inputs, strict=True):
            mine.copy_(theirs)
        graph.replay()
        return tuple(part.clone() for part in made)


def recorded(
    work: Work, *inputs: Tensor
) -> tuple[torch.cuda.CUDAGraph, list[Tensor], tuple[Tensor, ...]]:
    """The graph, where it reads its inputs, and where it writes."""
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
    return graph, given, made
