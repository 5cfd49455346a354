"""How many segments are in work hangs on the memory that is free, not their frames."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rerender import peak_memory
from rerender import propagate as module
from rerender.contracts import FlowEstimator, Propagation
from rerender.propagate import HELD, WORKING, propagate
from rerender.scene import Trace, Translation
from rerender.video import KeyFrame, MemoryVideo, Segment
from tests.scenes import Shift

SIDE, EVERY = 32, 4
NEEDED = SIDE * SIDE * (WORKING + HELD * (EVERY - 1))


class Counted(Propagation):
    """Holds the left key frame, and counts how many segments are in work at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.lock, self.other = threading.Lock(), threading.Event()

    def fill(self, segment: Segment, flow: FlowEstimator) -> Iterator[Tensor]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if self.now > 1:
            self.other.set()
        self.other.wait(0.05)
        for index in range(segment.start, segment.stop):
            yield torch.full((3, SIDE, SIDE), index / 40)
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize(
    ("segments", "most", "said"), [(None, 3, 0), (8, 3, 0), (2, 2, 1), (1, 1, 1), (0, 1, 1)]
)
def test_segments_in_work_fit_into_half_of_what_is_free(
    segments: int | None,
    most: int,
    said: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    free = None if segments is None else 2 * segments * NEEDED
    monkeypatch.setattr(module, "available", lambda: free)
    video = MemoryVideo([torch.rand(3, SIDE, SIDE) for _ in range(6 * EVERY + 1)])
    keys = [
        Translation(
            KeyFrame(index, video[index]), Trace(image=torch.full((3, SIDE, SIDE), index / 40))
        )
        for index in range(0, len(video), EVERY)
    ]
    method = Counted()
    with caplog.at_level(logging.WARNING):
        made = [float(image.mean()) for image in propagate(video, keys, method, Shift(), ahead=3)]
    assert made == pytest.approx([index / 40 for index in range(len(video))])
    assert method.most <= most
    assert len(caplog.messages) == said
    assert all("ahead: 3 segments of 32x32 need" in line for line in caplog.messages)


def test_free_memory_is_known_here() -> None:
    found = peak_memory.available()
    assert found is None or 0 <= found < 2**50
