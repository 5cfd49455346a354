"""Segments whose flow cannot be trusted are filled by the safer method, and it is said so."""

from __future__ import annotations

import logging

import pytest
import torch

from rerender.flow.dis import Dis
from rerender.propagate import propagate
from rerender.propagation.guarded import Guarded
from rerender.propagation.hold import Hold
from rerender.propagation.warp import Warp
from rerender.video import MemoryVideo
from tests.propagation.scenes import keys, moving, texture

PART = Guarded(Warp(), Hold(), least=0.5)


def same(video: MemoryVideo, other: Warp | Hold) -> bool:
    guarded = propagate(video, keys(video, [0, 4]), PART, Dis())
    return all(map(torch.equal, guarded, propagate(video, keys(video, [0, 4]), other, Dis())))


def test_consistent_flow_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert same(moving(5), Warp())
    assert "flow 0-1" in caplog.text and "filled by" not in caplog.text


def test_flow_that_does_not_find_back_is_not(caplog: pytest.LogCaptureFixture) -> None:
    video = MemoryVideo([texture(48, 64, seed) for seed in range(5)])
    assert same(video, Hold())
    assert "filled by Hold" in caplog.text


def test_after_the_last_key_frame_a_failing_pair_switches_and_nothing_is_read_ahead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    read: list[int] = []

    class Watched(MemoryVideo):
        def __getitem__(self, index: int) -> torch.Tensor:
            read.append(index)
            return super().__getitem__(index)

    good = moving(4)
    video = Watched([*(good[i] for i in range(4)), *(texture(48, 64, seed) for seed in range(9))])
    images = propagate(video, keys(video, [0]), PART, Dis())
    warped = list(propagate(good, keys(good, [0]), Warp(), Dis()))
    for index in range(4):
        assert torch.equal(next(images), warped[index])
    assert max(read) <= 4
    assert all(torch.equal(image, 1 - video[0]) for image in images)
    assert "frames 4-12: flow finds back only" in caplog.text
